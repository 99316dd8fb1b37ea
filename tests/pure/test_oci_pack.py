"""Folders in overlayfs form packed as layers, and read again by others."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import socket
import stat
import struct
import tarfile
from pathlib import Path

import pytest

from pytest_imagebuild.engines.oci import pack as module
from pytest_imagebuild.engines.oci.pack import pack
from pytest_imagebuild.engines.oci.tarstream import Entry, Tar
from pytest_imagebuild.engines.oci.tarwriter import file_header, header
from pytest_imagebuild.engines.oci.unpack import unpack
from pytest_imagebuild.errors import EngineError

PLAIN = "application/vnd.oci.image.layer.v1.tar"
IS_ROOT = os.geteuid() == 0


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    return folder


def packed(tree: Path, *, keep_owners: bool = False) -> bytes:
    target = tree.with_name("layer.tar")
    with target.open("wb", buffering=0) as file:
        file.write(b"before")
        pack(tree, file.fileno(), keep_owners=keep_owners)
    data = target.read_bytes()
    assert data.startswith(b"before")
    return data[6:]


def entries(data: bytes) -> dict[bytes, Entry]:
    return {entry.name: entry for entry in Tar(io.BytesIO(data).read)}


def white_out(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
    except PermissionError:
        pytest.skip("this machine lets nobody make a whiteout")


def set_attribute(path: Path, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EPERM):
            pytest.skip(f"{name} cannot be set here")
        raise


def entry(name: bytes, **more: object) -> Entry:
    fields = {"kind": b"0", "link": b"", "size": 0, "mode": 0o644, "uid": 0, "gid": 0, "mtime": 0, "attributes": {}}
    return Entry(name=name, **{**fields, **more})  # type: ignore[arg-type]


# folders ------------------------------------------------------------------------------------------------------------


def test_files_folders_and_links_are_packed_in_the_order_of_their_names(tree: Path) -> None:
    (tree / "b").mkdir(mode=0o700)
    (tree / "b" / "file").write_text("content")
    (tree / "b" / "file").chmod(0o4751)
    os.utime(tree / "b" / "file", (1, 1_000_000_007))
    (tree / "a").symlink_to("/nowhere/ü")
    os.mkfifo(tree / "c", 0o600)
    data = packed(tree)
    found = entries(data)
    assert list(found) == [b"./", b"a", b"b/", b"b/file", b"c"]
    assert (found[b"a"].kind, found[b"a"].link) == (b"2", "/nowhere/ü".encode())
    assert (found[b"b/"].kind, found[b"b/"].mode) == (b"5", 0o700)
    assert (found[b"b/file"].mode, found[b"b/file"].mtime, found[b"b/file"].size) == (0o4751, 1_000_000_007 * 10**9, 7)
    assert found[b"c"].kind == b"6"
    assert {(one.uid, one.gid) for one in found.values()} == {(0, 0)}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == [".", "a", "b", "b/file", "c"]
        assert tar.extractfile("b/file").read() == b"content"  # type: ignore[union-attr]


def test_the_same_folder_gives_the_same_bytes(tree: Path) -> None:
    for name in ("z", "y", "x"):
        (tree / name).write_text(name)
    assert packed(tree) == packed(tree)


def test_names_of_one_file_are_hard_links_to_the_first(tree: Path) -> None:
    (tree / "b").write_text("x")
    os.link(tree / "b", tree / "a")
    (tree.parent / "elsewhere").write_text("y")
    os.link(tree.parent / "elsewhere", tree / "c")
    found = entries(packed(tree))
    assert (found[b"a"].kind, found[b"b"].kind, found[b"b"].link) == (b"0", b"1", b"a")
    assert (found[b"c"].kind, found[b"c"].size) == (b"0", 1), "its other name is in no layer"


def test_whiteouts_and_opaque_folders_are_said_as_layers_say_it(tree: Path) -> None:
    (tree / "again" / "deep").mkdir(parents=True)
    white_out(tree / "gone")
    white_out(tree / "again" / "deep" / "too")
    set_attribute(tree / "again", "user.overlay.opaque", b"y")
    found = entries(packed(tree))
    assert list(found) == [b"./", b"again/", b"again/.wh..wh..opq", b"again/deep/", b"again/deep/.wh.too", b".wh.gone"]
    assert found[b".wh.gone"].is_file
    assert found[b"again/"].attributes == {}, "what the overlay notes is its own"


def test_what_is_packed_and_unpacked_is_packed_to_the_same_bytes(tree: Path) -> None:
    (tree / "folder").mkdir(mode=0o750)
    (tree / "folder" / ("n" * 200)).write_bytes(os.urandom(100_000))
    os.link(tree / "folder" / ("n" * 200), tree / "folder" / "other")
    (tree / "folder" / "link").symlink_to("m" * 150)
    (tree / "name with ü").write_text("")
    (tree / os.fsdecode(b"not \xff text")).write_text("")
    white_out(tree / "gone")
    set_attribute(tree / "folder", "user.overlay.opaque", b"y")
    set_attribute(tree / "name with ü", "user.note", b"\0binary\xff\n")
    data = packed(tree)
    blob, again = tree.parent / "blob", tree.parent / "again" / "tree"
    blob.write_bytes(data)
    again.parent.mkdir()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    unpack(blob, PLAIN, again, diff_id=digest, keep_owners=IS_ROOT, limit=10**7)
    assert packed(again) == data


def test_attributes_of_this_machine_stay_here(tree: Path) -> None:
    (tree / "file").write_text("")
    set_attribute(tree / "file", "user.overlay.origin", b"x")
    set_attribute(tree / "file", "user.mine", b"x")
    if IS_ROOT:
        set_attribute(tree / "file", "trusted.mine", b"x")
    assert entries(packed(tree))[b"file"].attributes == {b"user.mine": b"x"}


def test_a_capability_of_a_user_namespace_becomes_one_of_the_machine() -> None:
    revision_3 = struct.pack("<6I", 0x03000001, 1, 2, 3, 4, 100_000)
    revision_2 = struct.pack("<5I", 0x02000001, 1, 2, 3, 4)
    assert module._capability(revision_3) == revision_2
    assert module._capability(revision_2) == revision_2


@pytest.mark.skipif(not IS_ROOT, reason="only root may give files away")
def test_owners_are_kept_where_they_mean_something(tree: Path) -> None:
    (tree / "file").write_text("")
    os.chown(tree / "file", 5, 3_000_000)
    kept, roots = entries(packed(tree, keep_owners=True))[b"file"], entries(packed(tree))[b"file"]
    assert (kept.uid, kept.gid) == (5, 3_000_000)
    assert (roots.uid, roots.gid) == (0, 0)


@pytest.mark.skipif(IS_ROOT, reason="root may read everything")
def test_a_file_that_its_owner_may_not_read_is_packed_and_keeps_its_mode(tree: Path) -> None:
    (tree / "closed").write_text("content")
    (tree / "closed").chmod(0)
    found = entries(packed(tree))[b"closed"]
    assert (found.mode, found.size) == (0, 7)
    assert stat.S_IMODE((tree / "closed").lstat().st_mode) == 0


def test_a_socket_is_left_out(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    assert list(entries(packed(tree))) == [b"./"]


def test_a_name_that_would_say_something_else_is_refused(tree: Path) -> None:
    (tree / "folder").mkdir()
    (tree / "folder" / ".wh.x").write_text("")
    with pytest.raises(EngineError) as caught:
        packed(tree)
    assert str(caught.value) == (
        "the image has /folder/.wh.x, and a name that begins with '.wh.' says in an archive that something is removed. "
        "Rename it in a later step."
    )


# headers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    [
        entry(b"n" * 100),
        entry(b"n" * 101),
        entry("ü".encode() * 200, kind=b"5"),
        entry(b"a", kind=b"2", link=b"l" * 300),
        entry(b"a", uid=2**21 - 1, gid=2**21),
        entry(b"a", uid=2**32 - 2, mtime=-7 * 10**9, mode=0o7777),
        entry(b"a", mtime=(2**33 + 1) * 10**9),
        entry(b"a", attributes={b"user.a": b"x" * 94, b"user.b": b"=\n\0\xff"}),
    ],
)
def test_what_a_header_says_is_read_again(written: Entry) -> None:
    data = header(written)
    assert len(data) % 512 == 0
    assert list(Tar(io.BytesIO(data).read)) == [written]
    with tarfile.open(fileobj=io.BytesIO(data + bytes(1024))) as tar:
        (found,) = tar
    assert found.name.encode("utf-8", "surrogateescape") == written.name
    assert (found.uid, found.gid, found.mode, found.mtime) == (
        written.uid,
        written.gid,
        written.mode,
        written.mtime / 10**9,
    )


@pytest.mark.parametrize("size", [0, 8 * 1024**3 - 1, 8 * 1024**3, 2**40])
def test_the_header_of_a_blob_is_one_block_whatever_its_size(size: int) -> None:
    block = file_header("blobs/sha256/" + "0" * 64, size)
    assert len(block) == 512
    assert tarfile.TarInfo.frombuf(block, "utf-8", "strict").size == size
