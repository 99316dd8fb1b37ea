"""A build context on disk, as a builder or a bind mount takes it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from pytest_imagebuild.engines.entries import FILE_TIME, FileEntry, write_entry

__all__ = ["write_context"]

_FOLDER_MODE = 0o755


def write_context(folder: Path, entries: Iterable[FileEntry]) -> None:
    """Write the entries of a context below an empty folder; all of one fixed time. Raises EngineError."""
    made = [folder]
    for entry in entries:
        parts = entry.path.strip("/").split("/")
        _have(folder, parts if entry.path.endswith("/") else parts[:-1], made)
        if not entry.path.endswith("/"):
            write_entry(entry, folder.joinpath(*parts), "into the build context")
    for path in made:
        os.utime(path, (FILE_TIME, FILE_TIME))


def _have(folder: Path, parts: list[str], made: list[Path]) -> None:
    for part in parts:
        folder /= part
        if not folder.is_dir():
            folder.mkdir()
            folder.chmod(_FOLDER_MODE)
            made.append(folder)
