"""Files that tell their path and version, so that a test sees whether it has the right ones.

With the standard library alone: it is copied into projects, and imported in their containers.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Row", "look", "text_of", "wrong"]

Row = tuple[int, int, int]
"""The version of a file, its mode, and when it was changed, in seconds. The last two are 0 for a link."""

STRANGE: Row = (-1, 0, 0)
"""A file with a content that none ever had, or an empty folder."""


def text_of(path: str, version: int) -> str:
    """Return the content of a file; all versions are of one size."""
    return f"{path} {version:09}\n" * 8


def look(tree: Path) -> dict[str, Row]:
    """Return what is below a folder, by its path there."""
    found: dict[str, Row] = {}
    for path in tree.rglob("*"):
        name = str(path.relative_to(tree))
        if path.is_symlink():
            found[name] = int(path.readlink().name), 0, 0
        elif path.is_dir():
            if not any(path.iterdir()):
                found[name] = STRANGE
        else:
            found[name] = _row(path, name)
    return found


def wrong(found: Mapping[str, Row], expected: Mapping[str, Any]) -> dict[str, tuple[Row | None, Row | None]]:
    """Return what is and what should be, by path, where the two differ.

    `expected` has the `rows` from before the run, and the `last` version that there was then. Unless that is `exact`,
    any file may have a later version, and those of `loose` folders may be gone.
    """
    rows: dict[str, Row] = {path: (row[0], row[1], row[2]) for path, row in expected["rows"].items()}
    paths = sorted({*found, *rows})
    if expected["exact"]:
        differing = [path for path in paths if found.get(path) != rows.get(path)]
    else:
        differing = [path for path in paths if not _may_be(path, found.get(path), rows.get(path), expected)]
    return {path: (found.get(path), rows.get(path)) for path in differing}


def _may_be(path: str, now: Row | None, before: Row | None, expected: Mapping[str, Any]) -> bool:
    if now is None:
        return path.partition("/")[0] in expected["loose"]
    return now == before or now[0] > (before[0] if before else expected["last"])


def _row(path: Path, name: str) -> Row:
    text, status = path.read_text("utf-8"), path.stat()
    _, number, *_ = *text.split(), "", ""
    if not number.isdecimal() or text != text_of(name, int(number)):
        return STRANGE
    return int(number), stat.S_IMODE(status.st_mode), int(status.st_mtime)
