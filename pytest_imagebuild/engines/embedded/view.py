"""The file system of an image, read without mounting it: trees in overlayfs form, the upper ones hiding the lower.

In a tree, a character device 0:0 says that nothing is at its path, and the attribute `user.overlay.opaque` of a folder
that nothing below shows through (Linux, Documentation/filesystems/overlayfs.rst).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

__all__ = ["OPAQUE", "Found", "MergedView", "copy_status", "is_opaque", "is_whiteout"]

OPAQUE = "user.overlay.opaque"
_MOST_LINKS = 40


class Found(NamedTuple):
    """Something in the file system. `path` is where it is inside, without links; `real` is on this machine.

    `places` are the folders of this machine that a folder inside is made of, the uppermost first.
    """

    path: str
    real: Path
    status: os.stat_result
    places: tuple[Path, ...] = ()

    @property
    def is_folder(self) -> bool:
        """Say whether it is a folder."""
        return stat.S_ISDIR(self.status.st_mode)


class MergedView:
    """What a container of `trees`, the uppermost first, sees. A tree may change between two calls."""

    def __init__(self, trees: Sequence[Path]) -> None:
        self._trees = tuple(trees)

    def find(self, path: str, *, follow: bool = True) -> Found | None:
        """Return what is at an absolute path; None where nothing is. Links lead nowhere but inside.

        With `follow` false, a link at the very end is returned itself. Raises OSError for a ring of links.
        """
        return self._walk(self._root(), _parts(path), follow=follow, links=0)

    def destination(self, path: str) -> str:
        """Return `path` without links, as far as it exists: where the kernel would make it."""
        parts = _parts(path)
        found = self._root()
        for number, part in enumerate(parts):
            below = self._walk(found, [part], follow=True, links=0)
            if below is None:
                return str(PurePosixPath(found.path, *parts[number:]))
            found = below
        return found.path

    def children(self, folder: Found) -> list[tuple[str, Found]]:
        """Return what is in a folder by its names, sorted; links as they are."""
        names = {entry for place in folder.places for entry in os.listdir(place)}  # noqa: PTH208 - names alone
        found = ((name, self._child(folder, name)) for name in sorted(names))
        return [(name, item) for name, item in found if item is not None]

    def root(self) -> Found:
        """Return the root folder."""
        return self._root()

    def _root(self) -> Found:
        return Found(path="/", real=self._trees[0], status=self._trees[0].lstat(), places=self._trees)

    def _walk(self, at: Found, parts: list[str], *, follow: bool, links: int) -> Found | None:
        for number, part in enumerate(parts):
            if part == "..":
                above = self.find(str(PurePosixPath(at.path).parent))
                if above is None:
                    return None
                at = above
                continue
            below = self._child(at, part)
            rest = parts[number + 1 :]
            if below is not None and stat.S_ISLNK(below.status.st_mode) and (rest or follow):
                return self._follow(at, below, rest, follow=follow, links=links + 1)
            if below is None or (rest and not below.is_folder):
                return None
            at = below
        return at

    def _follow(self, at: Found, link: Found, rest: list[str], *, follow: bool, links: int) -> Found | None:
        if links > _MOST_LINKS:
            raise OSError(f"{link.path} is a ring of symbolic links")
        target = os.readlink(link.real)  # noqa: PTH115 - a Path would lose a slash at the end, and the bytes of a name
        start = self._root() if target.startswith("/") else at
        return self._walk(start, [*_parts(target), *rest], follow=follow, links=links)

    def _child(self, folder: Found, name: str) -> Found | None:
        path = str(PurePosixPath(folder.path, name))
        places: list[tuple[Path, os.stat_result]] = []
        for real, status in _versions(folder.places, name):
            if is_whiteout(status):
                break
            if not stat.S_ISDIR(status.st_mode):
                if places:
                    break
                return Found(path=path, real=real, status=status)
            places.append((real, status))
            if is_opaque(real):
                break
        if not places:
            return None
        return Found(path=path, real=places[0][0], status=places[0][1], places=tuple(real for real, _ in places))


def is_whiteout(status: os.stat_result) -> bool:
    """Say whether a file of a tree says that nothing is there."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(folder: Path | str) -> bool:
    """Say whether nothing below shows through a folder of a tree."""
    try:
        return os.getxattr(folder, OPAQUE, follow_symlinks=False) in (b"y", b"x")
    except OSError:
        return False


def copy_status(source: Path, folder: Path) -> None:
    """Give a folder what the kernel would give it when it copies `source` up: all but what hides those below."""
    status = source.lstat()
    with contextlib.suppress(PermissionError):
        os.chown(folder, status.st_uid, status.st_gid)
    for name in os.listxattr(source, follow_symlinks=False):
        if name != OPAQUE:
            with contextlib.suppress(OSError):
                os.setxattr(folder, name, os.getxattr(source, name))
    folder.chmod(stat.S_IMODE(status.st_mode))
    os.utime(folder, ns=(status.st_atime_ns, status.st_mtime_ns))


def _versions(places: Sequence[Path], name: str) -> Iterator[tuple[Path, os.stat_result]]:
    for place in places:
        real = place / name
        try:
            yield real, real.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
