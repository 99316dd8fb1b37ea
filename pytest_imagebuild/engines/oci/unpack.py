"""Unpacks one layer into one folder, in the form that overlayfs reads. Also a program: `python -I unpack.py --help`.

It imports the standard library, and what it needs of this package by path, and may run in a user namespace. A
whiteout becomes the character device 0:0, an opaque folder gets `user.overlay.opaque` (Linux, overlayfs.rst, "whiteouts
and opaque directories"; mknod(2) lets everybody make such a device since Linux 5.8).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from pytest_imagebuild.engines.oci.inflate import Inflated
from pytest_imagebuild.engines.oci.tarstream import Tar, TarError
from pytest_imagebuild.engines.oci.tree import Tree, clear
from pytest_imagebuild.errors import BaseImageError

__all__ = ["Unpacked", "unpack"]

_MOST_ENTRIES = 2_000_000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Unpacked:
    """What was written: `size` is the bytes of all files. The others count what could not be kept."""

    size: int
    entries: int
    devices: int = 0
    attributes: int = 0
    owners: int = 0


def unpack(blob: Path, media_type: str, target: Path, *, diff_id: str, keep_owners: bool, limit: int) -> Unpacked:
    """Unpack `blob` into `target`, which is made, or is an empty folder.

    `limit` is the most bytes that it may have when it is uncompressed, and that its files may have together. Raises
    BaseImageError, and leaves nothing, when the layer is damaged, hostile or not that of `diff_id`.
    """
    made = _make(target)
    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with contextlib.closing(Inflated(blob, limit)) as source:
            return _fill(root, source, diff_id=diff_id, keep_owners=keep_owners, limit=limit)
    except BaseException as error:
        os.fchmod(root, 0o700)
        clear(root)
        if made:
            target.rmdir()
        if isinstance(error, (TarError, BaseImageError, OSError)):
            message = f"the layer {diff_id} ({media_type}) cannot be unpacked: {_said(error)}. {_next_action(error)}"
            raise BaseImageError(message) from error
        raise
    finally:
        os.close(root)


def _make(target: Path) -> bool:
    try:
        target.mkdir(mode=0o700)
    except FileExistsError:
        if any(target.iterdir()):
            raise BaseImageError(f"{target} is not empty, so no layer is unpacked there; remove it") from None
        return False
    return True


def _fill(root: int, source: Inflated, *, diff_id: str, keep_owners: bool, limit: int) -> Unpacked:
    size = entries = 0
    with contextlib.closing(Tree(root, keep_owners=keep_owners)) as tree:
        tar = Tar(source.read)
        for entry in tar:
            entries += 1
            size += entry.size if entry.is_file else 0
            if entries > _MOST_ENTRIES or size > limit:
                raise TarError(f"it has more than {_MOST_ENTRIES} entries, or files of more than {limit} bytes")
            tree.add(entry, tar.content())
        found = source.finish()
        if found != diff_id:
            raise TarError(f"its content has the digest {found}")
        tree.finish()
    return Unpacked(size=size, entries=entries, **tree.left_out)


def _said(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _next_action(error: Exception) -> str:
    if isinstance(error, OSError):
        return "Make room, or choose another cache folder with IMAGEBUILD_CACHE_DIR."
    return "Name another image, or push this one again from where it was built."


def main() -> None:
    """Unpack as the arguments say; print what was written as JSON, or the error and exit with 1."""
    parser = argparse.ArgumentParser(description="Unpack one layer into one folder.")
    parser.add_argument("blob", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--media-type", required=True)
    parser.add_argument("--diff-id", required=True)
    parser.add_argument("--limit", type=int, required=True, help="the most bytes, uncompressed")
    parser.add_argument("--keep-owners", action="store_true")
    given = parser.parse_args()
    try:
        done = unpack(
            given.blob,
            given.media_type,
            given.target,
            diff_id=given.diff_id,
            keep_owners=given.keep_owners,
            limit=given.limit,
        )
    except BaseImageError as error:
        raise SystemExit(str(error)) from None
    sys.stdout.write(json.dumps(dataclasses.asdict(done)) + "\n")


if __name__ == "__main__":
    main()
