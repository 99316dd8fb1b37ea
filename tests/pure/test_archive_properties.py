"""Any archive: it is unpacked below its target, or refused with our error, and nothing else on the disk is touched."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from test_oci_unpack import IS_ROOT, TAR, Member, digest_of, layer, member, snapshot

from pytest_imagebuild.engines.oci.archive import load
from pytest_imagebuild.engines.oci.content import Blobs
from pytest_imagebuild.engines.oci.unpack import unpack
from pytest_imagebuild.errors import BaseImageError

ALIKE = settings(deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
"""The same examples in every run, and no time spent on making one that fails smaller."""

LIMIT = 1_000_000
PIECES = st.sampled_from(
    ["a", "b", "c", "a", "b", "..", ".", "", "folder", "file", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh..", ".wh...", "é"]
) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=4)
NAMES = st.tuples(st.sampled_from(["", "", "", "/", "//", "./", "../"]), st.lists(PIECES, max_size=4)).map(
    lambda name: name[0] + "/".join(name[1])
) | st.sampled_from(["n" * 256, "/".join("d" * 300), "a/" * 40 + "b", "/etc/imagebuild-hostile"])
TARGETS = NAMES | st.sampled_from(
    ["..", "../folder", "../file", "/", "/etc", "a", "b", "../../outside/file", "OUTSIDE"]
)
KINDS = st.sampled_from(
    [
        *[tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE] * 3,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CONTTYPE,
        tarfile.AREGTYPE,
        b"V",
    ]
)
FORMS = st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])


@st.composite
def members(draw: st.DrawFn) -> Member:
    kind = draw(KINDS)
    has_content = kind in (tarfile.REGTYPE, tarfile.CONTTYPE, tarfile.AREGTYPE)
    return member(
        draw(NAMES),
        draw(st.binary(max_size=20)) if has_content else b"",
        kind,
        linkname=draw(TARGETS) if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else "",
        mode=draw(st.sampled_from([0, 0o644, 0o755, 0o4755, 0o7777])),
        mtime=draw(st.sampled_from([0, 1, 10**9])),
        uid=draw(st.sampled_from([0, 1, 65534])),
        devmajor=draw(st.sampled_from([0, 1, 8])),
        devminor=draw(st.sampled_from([0, 3])),
    )


@contextlib.contextmanager
def surroundings() -> Iterator[Path]:
    """Give the place for a target in a folder that must stay as it is but for that."""
    with tempfile.TemporaryDirectory(prefix="outside-") as name:
        outside = Path(name) / "outside"
        (outside / "folder").mkdir(parents=True)
        for file in (outside / "file", outside / "folder" / "inner"):
            file.write_bytes(b"untouched")
        before = snapshot(outside, without="target")
        target = outside / "target"
        yield target
        assert snapshot(outside, without="target") == before
        assert not Path("/etc/imagebuild-hostile").exists()
        for folder, _, _ in os.walk(target):
            Path(folder).chmod(0o700)
        if target.exists():
            shutil.rmtree(target)


def put(data: bytes, target: Path) -> bool:
    """Unpack a layer; say whether it was taken. One that is refused leaves nothing."""
    blob = target.parent.parent / "blob"
    blob.write_bytes(data)
    try:
        unpack(blob, TAR, target, diff_id=digest_of(data), keep_owners=IS_ROOT, limit=LIMIT)
    except BaseImageError:
        assert not target.exists()
        return False
    return True


@settings(ALIKE, max_examples=250)
@given(st.lists(members(), min_size=1, max_size=8), FORMS)
def test_any_entries_stay_below_the_target_or_are_refused(entries: list[Member], form: int) -> None:
    with surroundings() as target:
        for entry, _ in entries:
            entry.linkname = entry.linkname.replace("OUTSIDE", str(target.parent / "file"))
        if put(layer(*entries, form=form), target):
            for folder, names, files in os.walk(target):
                for name in (*names, *files):
                    found = Path(folder, name).lstat()
                    assert found.st_rdev == 0, "a device node other than a whiteout"


TAKEN = layer(
    member("a", kind=tarfile.DIRTYPE),
    member("a/file", b"content" * 30, pax_headers={"mtime": "12.5", "SCHILY.xattr.user.x": "y"}),
    member("n" * 150, b"x"),
    member("link", kind=tarfile.SYMTYPE, linkname="a/" * 80),
    member("same", kind=tarfile.LNKTYPE, linkname="a/file"),
    member("a/.wh.gone"),
)
DAMAGE = st.tuples(st.integers(0, len(TAKEN) - 1), st.sampled_from([b"\0", b"\xff", b"/", b"..", b"7", b" ", b"x"]))


@settings(ALIKE, max_examples=200)
@given(st.lists(DAMAGE, max_size=4), st.integers(0, len(TAKEN)), st.booleans())
def test_a_damaged_archive_is_taken_or_refused(damage: list[tuple[int, bytes]], cut: int, mend: bool) -> None:
    data = bytearray(TAKEN if cut % 3 else TAKEN[:cut])
    for at, piece in damage:
        data[at : at + len(piece)] = piece
    if mend:
        for at in range(0, len(data) - 511, 512):
            block = data[at : at + 512]
            if block[257:262] == b"ustar":
                data[at + 148 : at + 156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 256)
    with surroundings() as target:
        put(bytes(data), target)


@settings(ALIKE, max_examples=100)
@given(st.binary(max_size=1500) | st.binary(max_size=600).map(gzip.compress))
def test_any_bytes_are_no_archive_or_one(data: bytes) -> None:
    with surroundings() as target:
        put(data, target)


def parts_of_an_image() -> dict[str, bytes]:
    content = layer(member("a", b"x"))
    root = {"type": "layers", "diff_ids": [digest_of(content)]}
    config = json.dumps({"os": "linux", "architecture": "amd64", "config": {}, "rootfs": root}).encode()
    entry = {"Config": "config.json", "RepoTags": ["name:1"], "Layers": ["l/layer.tar"]}
    return {"manifest.json": json.dumps([entry]).encode(), "config.json": config, "l/layer.tar": content}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["config.json", "../x", "/a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["Config", "Layers", "RepoTags", "manifests", "rootfs", "diff_ids"]), inner)
    ),
)


@settings(ALIKE, max_examples=120)
@given(
    st.lists(st.tuples(st.sampled_from([*parts_of_an_image(), "index.json"]), JSON), max_size=2),
    st.lists(members(), max_size=4),
    st.booleans(),
)
def test_an_image_archive_puts_blobs_by_their_digest_or_is_refused(
    changed: list[tuple[str, object]], more: list[Member], first: bool
) -> None:
    parts = {**parts_of_an_image(), **{name: json.dumps(value).encode() for name, value in changed}}
    own = [member(name, data) for name, data in parts.items()]
    with surroundings() as target:
        path = target.parent.parent / "image.tar"
        path.write_bytes(layer(*(more + own if first else own + more), form=tarfile.GNU_FORMAT))
        with contextlib.suppress(BaseImageError):
            load(path, Blobs(target), "linux/amd64", lambda _: None)
        for blob in target.rglob("*"):
            if blob.is_file():
                assert digest_of(blob.read_bytes()) == f"sha256:{blob.name}"


def test_what_is_left_alone_here_would_be_noticed() -> None:
    with pytest.raises(AssertionError), surroundings() as target:
        (target.parent / "file").write_bytes(b"touched")
    assert io.BytesIO(TAKEN).read(1) == b"a"
