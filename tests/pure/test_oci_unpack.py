"""Layers unpacked for overlayfs, and hostile layers that reach nothing outside."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_imagebuild.engines.oci import unpack as module
from pytest_imagebuild.engines.oci.unpack import Unpacked, unpack
from pytest_imagebuild.errors import BaseImageError

TAR = "application/vnd.oci.image.layer.v1.tar"
IS_ROOT = os.geteuid() == 0
LIMIT = 10_000_000

# A name or a TarInfo, and the content.
Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **more: Any) -> Member:
    entry = tarfile.TarInfo(name)
    entry.type = kind
    entry.size = len(data)
    entry.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in more.items():
        setattr(entry, key, value)
    return entry, data


def folder(name: str, **more: Any) -> Member:
    return member(name, kind=tarfile.DIRTYPE, **more)


def symlink(name: str, target: str) -> Member:
    return member(name, kind=tarfile.SYMTYPE, linkname=target)


def hardlink(name: str, target: str) -> Member:
    return member(name, kind=tarfile.LNKTYPE, linkname=target)


def layer(*members: Member, form: int = tarfile.PAX_FORMAT) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=form) as tar:
        for entry, data in members:
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with something in it, of which the target is a part."""
    parent = tmp_path / "outside"
    parent.mkdir()
    (parent / "file").write_bytes(b"untouched")
    (parent / "folder").mkdir()
    (parent / "folder" / "inner").write_bytes(b"untouched")
    return parent


def snapshot(root: Path, *, without: str) -> dict[str, tuple[int, ...]]:
    """Return what is below `root`, but for the times of reading."""
    return {
        str(path): (found.st_mode, found.st_size, found.st_mtime_ns, found.st_nlink, found.st_ino)
        for path in root.rglob("*")
        if not path.is_relative_to(root / without)
        for found in [path.lstat()]
    }


@pytest.fixture
def target(outside: Path) -> Iterator[Path]:
    """A target whose surroundings must stay as they are."""
    before = snapshot(outside, without="target")
    yield outside / "target"
    assert snapshot(outside, without="target") == before


def put(data: bytes, target: Path, *, packed: bytes | None = None, limit: int = LIMIT) -> Unpacked:
    blob = target.parent.parent / "blob"
    blob.write_bytes(data if packed is None else packed)
    return unpack(blob, TAR, target, diff_id=digest_of(data), keep_owners=IS_ROOT, limit=limit)


def refused(data: bytes, target: Path, *, packed: bytes | None = None, limit: int = LIMIT) -> str:
    """Return why a layer is refused; nothing of it is left."""
    with pytest.raises(BaseImageError) as caught:
        put(data, target, packed=packed, limit=limit)
    assert not target.exists()
    start = f"the layer {digest_of(data)} ({TAR}) cannot be unpacked: "
    end = ". Name another image, or push this one again from where it was built."
    said = str(caught.value)
    assert said.startswith(start)
    assert said.endswith(end)
    return said.removeprefix(start).removesuffix(end)


# What is in a layer.


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_files_folders_and_links_come_as_they_are(form: int, target: Path) -> None:
    long = "d" * 90 + "/" + "f" * 90
    data = layer(
        folder("./", mode=0o711),
        folder("d" * 90, mode=0o750, mtime=1_000_000_000),
        member(long, b"content", mode=0o4755, mtime=1_234_567_890),
        symlink("link", "/etc/passwd"),
        member("short", b"x"),
        hardlink("same", "short"),
        member("pipe", kind=tarfile.FIFOTYPE, mode=0o622),
        form=form,
    )
    assert put(data, target) == Unpacked(size=8, entries=7)
    file = target / long
    assert file.read_bytes() == b"content"
    assert stat.S_IMODE(file.stat().st_mode) == 0o4755
    assert file.stat().st_mtime == 1_234_567_890
    assert stat.S_IMODE(target.stat().st_mode) == 0o711
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o750
    assert file.parent.stat().st_mtime == 1_000_000_000
    assert (target / "link").readlink() == Path("/etc/passwd")
    assert (target / "same").samefile(target / "short")
    assert stat.S_ISFIFO((target / "pipe").stat().st_mode)
    assert stat.S_IMODE((target / "pipe").stat().st_mode) == 0o622


def test_times_keep_their_nanoseconds(target: Path) -> None:
    put(layer(member("file", pax_headers={"mtime": "1234567890.123456789"})), target)
    assert (target / "file").stat().st_mtime_ns == 1_234_567_890_123_456_789


def test_names_that_are_no_text_come_byte_by_byte(target: Path) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    put(layer(member(name, b"x"), form=tarfile.GNU_FORMAT), target)
    assert [os.fsencode(path.name) for path in target.iterdir()] == [b"caf\xe9"]


def test_a_folder_that_only_a_file_names_is_made(target: Path) -> None:
    put(layer(member("a/b/file", b"x")), target)
    for made in (target, target / "a", target / "a" / "b"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o755


def test_a_leading_slash_means_the_root_of_the_layer(target: Path) -> None:
    put(layer(member("/etc/file", b"x"), hardlink("/etc/again", "/etc/file")), target)
    assert (target / "etc" / "again").read_bytes() == b"x"


def test_folders_without_permissions_are_filled(target: Path) -> None:
    put(layer(folder("closed", mode=0), member("closed/file", b"x"), folder("closed/in", mode=0o100)), target)
    assert stat.S_IMODE((target / "closed").stat().st_mode) == 0
    (target / "closed").chmod(0o700)
    assert (target / "closed" / "file").read_bytes() == b"x"


def test_the_last_of_several_entries_wins(target: Path) -> None:
    data = layer(
        member("file", b"first"),
        member("file", b"second"),
        folder("now-a-file"),
        member("now-a-file/inner", b"x"),
        member("now-a-file", b"file"),
        member("now-a-folder", b"x"),
        folder("now-a-folder", mode=0o700),
        member("now-a-folder/inner", b"inner"),
        symlink("now-real", "/etc"),
        folder("now-real"),
        member("now-real/inner", b"inner"),
        folder("twice", mode=0o700),
        member("twice/kept", b"kept"),
        folder("twice", mode=0o711),
    )
    put(data, target)
    assert (target / "file").read_bytes() == b"second"
    assert (target / "now-a-file").read_bytes() == b"file"
    assert (target / "now-a-folder" / "inner").read_bytes() == b"inner"
    assert (target / "now-real" / "inner").read_bytes() == b"inner"
    assert (target / "twice" / "kept").read_bytes() == b"kept"
    assert stat.S_IMODE((target / "twice").stat().st_mode) == 0o711


def test_writing_to_a_duplicate_leaves_its_hard_link_alone(target: Path) -> None:
    put(layer(member("file", b"first"), hardlink("kept", "file"), member("file", b"second")), target)
    assert (target / "kept").read_bytes() == b"first"


def is_whiteout(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def opaque(path: Path) -> bool:
    return "user.overlay.opaque" in os.listxattr(path)


def test_whiteouts_become_what_overlayfs_reads(target: Path) -> None:
    put(layer(member("a/.wh.gone"), folder("b"), member("b/.wh..wh..opq"), member("b/new", b"x")), target)
    assert is_whiteout(target / "a" / "gone")
    assert not opaque(target / "a")
    assert os.getxattr(target / "b", "user.overlay.opaque") == b"y"
    assert [path.name for path in (target / "b").iterdir()] == ["new"]


@pytest.mark.parametrize("first", [True, False])
def test_a_whiteout_hides_what_is_below_and_not_what_its_layer_has(first: bool, target: Path) -> None:
    whiteouts = [member(".wh.folder"), member(".wh.file")]
    own = [folder("folder"), member("folder/own", b"x"), member("file", b"own")]
    put(layer(*(whiteouts + own if first else own + whiteouts)), target)
    assert opaque(target / "folder")
    assert (target / "folder" / "own").read_bytes() == b"x"
    assert (target / "file").read_bytes() == b"own"


def test_what_aufs_kept_for_itself_is_no_part_of_the_layer(target: Path) -> None:
    put(layer(folder(".wh..wh.plnk"), member(".wh..wh.plnk/1.2", b"x"), member("file")), target)
    assert [path.name for path in target.iterdir()] == ["file"]


@pytest.mark.skipif(not IS_ROOT, reason="only root gives files away")
def test_owners_and_capabilities_are_kept_by_root(target: Path) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    headers = {"SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape")}
    data = layer(
        member("ping", b"x", uid=12, gid=34, mode=0o6755, pax_headers=headers),
        folder("theirs", uid=56, gid=78),
        member("link", kind=tarfile.SYMTYPE, linkname="x", uid=90, gid=12),
    )
    assert put(data, target).attributes == 0
    found = (target / "ping").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12, 34, 0o6755)
    assert os.getxattr(target / "ping", "security.capability") == capability
    assert (target / "theirs").stat().st_uid == 56
    assert (target / "link").lstat().st_uid == 90


def test_user_attributes_are_kept_and_those_of_the_overlay_are_left_out(target: Path) -> None:
    headers = {
        "SCHILY.xattr.user.ours": "value",
        "SCHILY.xattr.user.overlay.redirect": "/../../outside",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
    }
    assert put(layer(folder("a", pax_headers=headers)), target).attributes == 2
    assert os.listxattr(target / "a") == ["user.ours"]


def test_device_nodes_are_left_out_and_counted(target: Path) -> None:
    data = layer(
        member("dev/null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3),
        member("dev/sda", kind=tarfile.BLKTYPE, devmajor=8),
        member("dev/gone", kind=tarfile.CHRTYPE),
        hardlink("dev/again", "dev/null"),
    )
    assert put(data, target).devices == 4
    assert not (target / "dev").exists()


@pytest.mark.parametrize("posix", [["--format=gnu"], ["--sparse-version=1.0"], ["--sparse-version=0.1"]])
def test_sparse_files_come_whole(posix: list[str], target: Path, tmp_path: Path) -> None:
    source = tmp_path / "sparse"
    with source.open("wb") as file:
        for at in range(30):
            file.seek(at * 100_000)
            file.write(b"data" * 10)
        file.truncate(3_500_000)
    command = ["tar", "--sparse", *posix, "-C", str(tmp_path), "-c", "sparse"]
    data = subprocess.run(command, check=True, capture_output=True, timeout=30).stdout
    assert len(data) < 1_000_000
    put(data, target)
    assert (target / "sparse").read_bytes() == source.read_bytes()


# How a layer is packed.


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data)


def in_members(data: bytes) -> bytes:
    return gzip.compress(data[:700]) + gzip.compress(data[700:]) + bytes(100)


def zstandard(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-qc"], input=data, check=True, capture_output=True, timeout=30).stdout


@pytest.mark.parametrize("pack", [gzipped, in_members, zstandard])
def test_packed_layers_are_told_by_their_first_bytes(pack: Callable[[bytes], bytes], target: Path) -> None:
    data = layer(member("file", os.urandom(3_000_000)))
    put(data, target, packed=pack(data))
    assert (target / "file").stat().st_size == 3_000_000


def test_zstd_without_a_program_says_what_to_install(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = layer(member("file"))
    packed = zstandard(data)
    monkeypatch.setenv("PATH", "/nowhere")
    for library in ("zstandard", "compression.zstd"):
        monkeypatch.setitem(sys.modules, library, None)
    assert refused(data, target, packed=packed).startswith("it is packed with zstd, which this Python cannot read. In")


@pytest.mark.parametrize("pack", [gzipped, zstandard])
def test_a_packed_layer_that_is_cut_is_refused(pack: Callable[[bytes], bytes], target: Path) -> None:
    data = layer(member("file", os.urandom(3_000_000)))
    assert re.search("ends|damaged", refused(data, target, packed=pack(data)[:-1000]))


def test_content_of_another_digest_is_refused(target: Path) -> None:
    data, other = layer(member("file", b"x")), layer(member("file", b"y"))
    assert refused(data, target, packed=other) == f"its content has the digest {digest_of(other)}"


# Hostile layers.


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([member("../file", b"x")], "b'../file' leads upwards"),
        ([member("a/../../file", b"x")], "b'a/../../file' leads upwards"),
        ([member("/../file", b"x")], "b'/../file' leads upwards"),
        ([folder("..")], "b'../' leads upwards"),
        ([symlink("a", "../folder"), member("a/inner", b"x")], "b'a' is no folder, but entries go through it"),
        ([symlink("a", ".."), symlink("a/b", "x")], "b'a' is no folder, but entries go through it"),
        ([symlink("a", "../folder"), folder("a/b")], "b'a' is no folder, but entries go through it"),
        ([symlink("a", "../folder"), member("a/.wh.inner")], "b'a' is no folder, but entries go through it"),
        ([symlink("a", "../folder"), member("a/.wh..wh..opq")], "b'a' is no folder, but entries go through it"),
        ([symlink("a", ".."), hardlink("b", "a/file")], "b'a' is no folder, but entries go through it"),
        ([symlink("a", "../x"), member("c"), hardlink("a/b", "c")], "b'a' is no folder, but entries go through it"),
        ([hardlink("a", "../file")], "b'../file' leads upwards"),
        ([hardlink("a", "/etc/passwd")], "the hard link b'a' points to b'/etc/passwd', which its layer does not have"),
        (
            [folder("etc"), hardlink("a", "etc/x")],
            "the hard link b'a' points to b'etc/x', which its layer does not have",
        ),
        ([folder("d"), hardlink("a", "d")], "the hard link b'a' points to b'd', which is no file"),
        ([member("a"), hardlink("a", "a")], "the hard link b'a' points to itself or to the root"),
        ([hardlink("a", ".")], "the hard link b'a' points to itself or to the root"),
        ([member(".wh.gone"), hardlink("a", "gone")], "the hard link b'a' points to b'gone', which is no file"),
        ([member(".wh..")], "the whiteout b'.wh..' points outside of its folder"),
        ([member(".wh...")], "the whiteout b'.wh...' points outside of its folder"),
        ([member(".wh.")], "the whiteout b'.wh.' points outside of its folder"),
        ([member(".wh../x")], "b'.wh../x' is below a whiteout"),
        ([member("a/.wh.b/c")], "b'a/.wh.b/c' is below a whiteout"),
        ([member(".", b"x")], "b'.' names the root, but is no folder"),
        ([symlink("/", "/etc")], "b'/' names the root, but is no folder"),
        ([member("a", pax_headers={"path": "a\0b"})], "b'a\\x00b' has a NUL byte"),
        ([member("n" * 256)], f"b'{'n' * 80}'... is longer or deeper than a file system holds"),
        ([member("a/" * 300 + "b")], f"b'{'a/' * 40}'... is longer or deeper than a file system holds"),
        ([member("a", kind=b"V")], "b'a' is of the type b'V', which is not known"),
        ([symlink("a", "")], "the symlink b'a' has a target that no file system holds"),
        ([member("first", b"x"), member("../file", b"x")], "b'../file' leads upwards"),
    ],
)
def test_a_hostile_entry_reaches_nothing_outside(members: list[Member], said: str, target: Path) -> None:
    assert refused(layer(*members), target) == said


@pytest.mark.parametrize("name", ["/etc/imagebuild-hostile", "//etc/imagebuild-hostile"])
def test_an_absolute_path_stays_inside(name: str, target: Path) -> None:
    put(layer(member(name, b"x")), target)
    assert (target / "etc" / "imagebuild-hostile").exists()
    assert not Path("/etc/imagebuild-hostile").exists()


def test_a_symlink_in_place_of_a_folder_is_not_followed_when_folders_get_their_modes(target: Path) -> None:
    data = layer(folder("a", mode=0o777, mtime=1), folder("a/folder", mode=0o777, mtime=1), symlink("a", ".."))
    put(data, target)
    assert (target / "a").is_symlink()


def test_replacing_a_folder_does_not_follow_its_symlinks(target: Path) -> None:
    put(layer(folder("a"), symlink("a/out", "../../folder"), member("a", b"x")), target)
    assert (target / "a").read_bytes() == b"x"


def test_a_bomb_is_stopped_at_the_limit(target: Path) -> None:
    data = layer() + bytes(100_000_000)
    assert refused(data, target, packed=gzip.compress(data, 1)) == (
        "it has more than 10000000 bytes when it is uncompressed"
    )


def test_a_file_over_the_limit_is_refused_before_it_is_written(target: Path) -> None:
    data = layer(member("file", bytes(20_000_000)))
    assert refused(data, target, packed=gzip.compress(data, 1)) == (
        "it has more than 2000000 entries, or files of more than 10000000 bytes"
    )


def test_the_size_of_holes_counts_too(target: Path, tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    command = ["tar", "--sparse", "-C", str(tmp_path), "-c", "sparse"]
    data = subprocess.run(command, check=True, capture_output=True, timeout=30).stdout
    assert refused(data, target) == "it has more than 2000000 entries, or files of more than 10000000 bytes"


def test_the_number_of_entries_is_bounded(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_ENTRIES", 10)
    assert refused(layer(*(member(f"{n}") for n in range(11))), target).startswith("it has more than 10 entries")


def header(name: bytes = b"a", kind: bytes = b"0", size: bytes = b"00000000000\0", mode: bytes = b"0000644\0") -> bytes:
    """Return a header, whatever its fields hold."""
    block = bytearray(
        struct.pack("100s8s8s8s12s12s8s1s", name, mode, b"0" * 7, b"0" * 7, size, b"0" * 11, b" " * 8, kind)
    )
    block += bytes(512 - len(block))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (header()[:300], "it ends in the middle of an entry"),
        (header(size=b"00000001000\0") + b"x" * 100, "it ends in the middle of an entry"),
        (b"not a tar at all".ljust(512, b"?"), "a header has b'????????' in the place of a number"),
        (header()[:-1] + b"x", "a header has a wrong checksum"),
        (header(size=b"\xff" * 12) + bytes(1024), "b'a' has a negative size"),
        (header(size=b"0000zzzz000\0"), "a header has b'0000zzzz000\\x00' in the place of a number"),
        (
            header(kind=b"x", size=b"77777777777\0"),
            "the extended headers of an entry have 8589934591 bytes; 1048576 are the most",
        ),
        (header(kind=b"x", size=b"\xff" * 12), "the extended headers of an entry have -1 bytes; 1048576 are the most"),
        (header(kind=b"x", size=b"00000000005\0") + b"9 a=b".ljust(512, b"\0"), "an extended header is damaged"),
        (header(kind=b"x", size=b"00000000005\0") + b"0 a=b".ljust(512, b"\0"), "an extended header is damaged"),
        (header(kind=b"L", size=b"00000000005\0") + bytes(1536), "it ends after an extended header"),
        (header(kind=b"S", size=b"00000000005\0") + bytes(1024), "the parts of a sparse file do not make up its size"),
    ],
)
def test_a_damaged_tar_is_refused(data: bytes, said: str, target: Path) -> None:
    assert refused(data, target) == said


def test_a_full_target_is_left_alone(target: Path, tmp_path: Path) -> None:
    target.mkdir()
    (target / "mine").write_bytes(b"x")
    with pytest.raises(BaseImageError, match="is not empty, so no layer is unpacked there"):
        put(layer(member("mine", b"y")), target)
    assert (target / "mine").read_bytes() == b"x"


def test_an_empty_target_is_empty_again_after_a_failure(target: Path) -> None:
    target.mkdir()
    with pytest.raises(BaseImageError):
        put(layer(member("a", b"x"), folder("b", mode=0), member("../c", b"x")), target)
    assert list(target.iterdir()) == []


# As a program.


# The interpreter may be where only root may go, so the user changes in it.
AS_NOBODY = """
import locale, os, sys  # argparse asks for the first when it is too late
sys.path.insert(0, sys.argv.pop(1))
from pytest_imagebuild.engines.oci.unpack import main
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
main()
"""


def run(folder: Path, data: bytes, *program: str) -> subprocess.CompletedProcess[str]:
    (folder / "blob").write_bytes(data)
    command = [sys.executable, "-I", *program, str(folder / "blob"), str(folder / "target")]
    command += ["--media-type", TAR, "--diff-id", digest_of(data), "--limit", "1000000"]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd="/")


def as_nobody(folder: Path, data: bytes) -> subprocess.CompletedProcess[str]:
    return run(folder, data, "-c", AS_NOBODY, str(Path(module.__file__).parents[3]))


def test_it_runs_as_a_program_of_its_own(tmp_path: Path) -> None:
    done = run(tmp_path, layer(member("file", b"x")), module.__file__)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == '{"size": 1, "entries": 1, "devices": 0, "attributes": 0, "owners": 0}\n'
    assert (tmp_path / "target" / "file").exists()


def test_the_program_tells_why_it_failed(tmp_path: Path) -> None:
    done = run(tmp_path, layer(member("../file", b"x")), module.__file__)
    assert done.returncode == 1
    assert "leads upwards" in done.stderr
    assert "Traceback" not in done.stderr


FULL = """
import resource, sys
sys.path.insert(0, sys.argv.pop(1))
from pytest_imagebuild.engines.oci.unpack import main
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
main()
"""


def test_a_full_disk_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    data = layer(member("small", b"x"), member("large", bytes(200_000)))
    done = run(tmp_path, data, "-c", FULL, str(Path(module.__file__).parents[3]))
    assert done.returncode == 1
    assert done.stderr == (
        f"the layer {digest_of(data)} ({TAR}) cannot be unpacked: File too large. Make room, or choose another cache "
        "folder with IMAGEBUILD_CACHE_DIR.\n"
    )
    assert not (tmp_path / "target").exists()


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A folder that any user may write to."""
    import tempfile

    folder = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="imagebuild-test-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def test_an_ordinary_user_unpacks_all_but_owners_and_capabilities(everybodys: Path) -> None:
    data = layer(
        folder("closed", mode=0, uid=0),
        member("closed/file", b"x", uid=12, gid=34),
        folder("b", mode=0o555),
        member("b/.wh.gone"),
        member("b/.wh..wh..opq"),
        member("ping", b"x", mode=0o4755, pax_headers={"SCHILY.xattr.security.capability": "x"}),
        member("dev/null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3),
    )
    done = as_nobody(everybodys, data)
    assert done.stderr == ""
    assert done.stdout == '{"size": 2, "entries": 7, "devices": 1, "attributes": 1, "owners": 0}\n'
    target = everybodys / "target"
    assert is_whiteout(target / "b" / "gone")
    assert opaque(target / "b")
    assert (target / "ping").stat().st_uid == (65534 if IS_ROOT else os.geteuid())
    assert stat.S_IMODE((target / "ping").stat().st_mode) == 0o4755
    (target / "closed").chmod(0o700)


def test_a_failure_removes_what_an_ordinary_user_wrote(everybodys: Path) -> None:
    done = as_nobody(everybodys, layer(folder("a", mode=0), member("a/b", b"x"), member("../c", b"x")))
    assert done.returncode == 1
    assert not (everybodys / "target").exists()
