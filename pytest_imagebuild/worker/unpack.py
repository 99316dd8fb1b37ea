"""Puts the files of a session in place. Runs in the container: imports the standard library only."""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
from collections.abc import Iterable
from typing import IO, Protocol, cast

__all__ = ["remove", "unpack", "unpack_archive"]


class _Source(Protocol):
    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, b"" at the end."""


class _Payload:
    """A file object over the next `size` bytes of a stream."""

    def __init__(self, source: _Source, size: int) -> None:
        self._source = source
        self._left = size

    def read(self, size: int) -> bytes:
        parts = []
        while size and self._left:
            data = self._source.read(min(size, self._left))
            if not data:
                msg = f"the stream ended {self._left} bytes before the end of the files"
                raise EOFError(msg)
            parts.append(data)
            self._left -= len(data)
            size -= len(data)
        return b"".join(parts)


def unpack(source: _Source, size: int, root: str) -> None:
    """Extract an uncompressed tar, the next `size` bytes of `source`, under `root`.

    Members are regular files, directories and symbolic links; others are left out. Modes and times are
    kept, owners are not. What is there already is replaced, but for directories: they keep their mode.
    """
    payload = _Payload(source, size)
    if size:
        with tarfile.open(fileobj=cast("IO[bytes]", payload), mode="r|") as archive:
            for member in archive:
                _extract(archive, member, os.path.join(root, member.name.lstrip("/")))  # noqa: PTH118 - a hot loop
    while payload.read(65536):
        pass


def unpack_archive(path: str) -> int:
    """Extract a tar into the root. Returns 1 if something went where no layer of an image has it: into a mount."""
    with open(path, "rb") as file:  # noqa: PTH123
        unpack(file, os.fstat(file.fileno()).st_size, "/")
    with tarfile.open(path) as archive:
        folders = {os.path.dirname(f"/{name}") for name in archive.getnames()}  # noqa: PTH120
    while folders - {"/"}:
        if any(os.path.ismount(folder) for folder in folders - {"/"}):
            return 1
        folders = {os.path.dirname(folder) for folder in folders}  # noqa: PTH120
    return 0


def remove(paths: Iterable[str]) -> None:
    """Remove files and links, and the folders that are empty then. What is gone is as good."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(path)  # noqa: PTH108 - a hot loop
            with contextlib.suppress(OSError):
                os.removedirs(os.path.dirname(path))  # noqa: PTH120


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    if member.isdir():
        if not os.path.isdir(path):  # noqa: PTH112 - a hot loop
            os.makedirs(path)  # noqa: PTH103
            os.chmod(path, member.mode & 0o7777)  # noqa: PTH101
        return
    if not member.isreg() and not member.issym():
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108
    if member.issym():
        os.symlink(member.linkname, path)  # noqa: PTH211
        return
    content = archive.extractfile(member)
    assert content is not None  # noqa: S101 - it is a regular file
    try:
        with open(path, "xb") as file:  # noqa: PTH123
            shutil.copyfileobj(content, file, 1024 * 1024)
            os.fchmod(file.fileno(), member.mode & 0o7777)
    except OSError as error:
        # A file that cannot be written, unlike one that cannot be opened, is not named.
        error.filename = path
        raise
    os.utime(path, (member.mtime, member.mtime))
