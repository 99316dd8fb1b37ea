"""Make one tree of many, where more of them lie on top of each other than one mount takes."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from pytest_imagebuild.engines.embedded.view import copy_status, is_opaque, is_whiteout

__all__ = ["merge"]


def merge(trees: Iterable[Path], target: Path) -> None:
    """Lay `trees`, the lowest first, over each other in the new folder `target`. Files are hard links."""
    target.mkdir(mode=0o700)
    folders: dict[Path, Path] = {}
    for tree in trees:
        _lay(tree, target, folders)
    # From the inside out: what is put into a folder changes its time, and its mode may forbid to put anything in.
    for folder, source in sorted(folders.items(), key=lambda pair: -len(pair[0].parts)):
        if folder.is_dir() and not folder.is_symlink():
            copy_status(source, folder)


def _lay(source: Path, target: Path, folders: dict[Path, Path]) -> None:
    folders[target] = source
    for entry in os.scandir(source):
        status = entry.stat(follow_symlinks=False)
        place = target / entry.name
        if is_whiteout(status):
            _clear(place)
        elif not stat.S_ISDIR(status.st_mode):
            _clear(place)
            os.link(entry.path, place, follow_symlinks=False)
        else:
            if not _is_folder(place) or is_opaque(entry.path):
                _clear(place)
                place.mkdir(mode=0o700)
            _lay(Path(entry.path), place, folders)


def _clear(place: Path) -> None:
    if _is_folder(place):
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _is_folder(place: Path) -> bool:
    return place.is_dir() and not place.is_symlink()
