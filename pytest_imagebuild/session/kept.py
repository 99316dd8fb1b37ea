"""The files of a project that a layer of an engine has already: sessions of it are sent what has changed since."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping
from typing import NamedTuple

from pytest_imagebuild.session.tree import ProjectTree

__all__ = ["Changes", "Status", "changes", "settled", "size_of", "statuses"]

Status = tuple[int, ...]
"""What a file system says of a file: its mode, size, inode, and when content and status were changed last, in ns."""

_SETTLED_NS = 1_000_000_000
"""What was changed so lately may be changed again without a sign of it: clocks of file systems go by ticks."""


class Changes(NamedTuple):
    """What makes kept files those that there are now.

    `same` and `removed` are absolute paths; `changed` counts the other files that there are, `size` is their bytes.
    """

    same: frozenset[str] = frozenset()
    changed: int = 0
    size: int = 0
    removed: tuple[str, ...] = ()


def statuses(tree: ProjectTree) -> dict[str, Status]:
    """Return what the file system says now of the files of a tree; what is no file and no link is left out."""
    found = {}
    root = f"{tree.root}/"
    lstat = os.lstat
    for path in tree.paths:
        name = f"{root}{path}"
        try:
            status = lstat(name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            found[name] = _of(status)
    return found


def settled(files: Mapping[str, Status]) -> dict[str, Status]:
    """Return what to note of files whose content is read right after this."""
    before = time.time_ns() - _SETTLED_NS
    return {path: status if max(status[-2:]) < before else () for path, status in files.items()}


def changes(kept: Mapping[str, Status], now: Mapping[str, Status]) -> Changes:
    """Compare what was noted with what there is."""
    same = frozenset(path for path, status in now.items() if kept.get(path) == status)
    return Changes(
        same=same,
        changed=len(now) - len(same),
        size=sum(size_of(status) for path, status in now.items() if path not in same),
        removed=tuple(path for path in kept if path not in now),
    )


def size_of(status: Status) -> int:
    """Return the bytes of a file."""
    return status[1]


def _of(status: os.stat_result) -> Status:
    return status.st_mode, status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns
