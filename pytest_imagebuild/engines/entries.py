"""Files that an engine puts into a layer, a build context or a container."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pytest_imagebuild.errors import EngineError

__all__ = ["FILE_TIME", "FileEntry", "read_entry", "tar_entries", "write_entry"]

FILE_TIME = 315619200
"""The time of every file that is put into a layer, in seconds since the epoch.

Wheels are zip files, and zip knows no time before 1980; a day later it is 1980 in every time zone.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """One file of a build context or of a tool: a regular file from `source` or from `data`.

    `path` is absolute inside the container, `mode` the twelve low bits.
    """

    path: str
    mode: int
    source: Path | None = None
    data: bytes | None = None
    sha256: str = ""


def tar_entries(files: Iterable[FileEntry]) -> Iterable[FileEntry]:
    """Yield `files` sorted by path, a later entry of the same path winning."""
    return (entry for _, entry in sorted({entry.path: entry for entry in files}.items()))


def read_entry(entry: FileEntry) -> bytes:
    """Return the content of a small file."""
    if entry.data is not None:
        return entry.data
    if entry.source is None:
        raise EngineError(f"{entry.path} has neither a source nor data")
    try:
        return entry.source.read_bytes()
    except OSError as error:
        raise EngineError(f"{entry.source} cannot be read: {error}") from error


def write_entry(entry: FileEntry, target: Path, into: str) -> None:
    """Write the file at `target`, of its mode and the fixed time. Raises EngineError, which calls the place `into`."""
    if entry.data is None and entry.source is not None:
        try:
            shutil.copyfile(entry.source, target)
        except OSError as error:
            raise EngineError(f"{entry.source} cannot be copied {into}: {error}") from error
    else:
        target.write_bytes(read_entry(entry))
    target.chmod(entry.mode & 0o7777)
    os.utime(target, (FILE_TIME, FILE_TIME))
