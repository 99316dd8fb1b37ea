"""What happens in folders, told by the kernel (inotify(7))."""

from __future__ import annotations

import ctypes
import os
import select
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

__all__ = ["CHANGES", "CREATED", "DELETED", "OPENED", "Happening", "Inotify"]

OPENED = 0x20
_MOVED_FROM = 0x40
_MOVED_TO = 0x80
_CREATE = 0x100
_DELETE = 0x200
_IS_FOLDER = 0x40000000
CREATED = _CREATE | _MOVED_TO
DELETED = _DELETE | _MOVED_FROM
CHANGES = CREATED | DELETED

_HEAD = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened to what is called `name` in `folder`; to the folder itself where the name is empty."""

    folder: Path
    name: str
    mask: int

    @property
    def path(self) -> Path:
        return self.folder / self.name


@final
class Inotify:
    """Watches of folders. What was watched for is kept by the kernel until it is read."""

    def __init__(self) -> None:
        self._file = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "inotify cannot be used")
        self._folders: dict[int, Path] = {}
        self.closed = False

    def watch(self, folder: Path, mask: int) -> bool:
        """Watch a folder; say whether it was there."""
        number = _libc.inotify_add_watch(self._file, os.fsencode(folder), ctypes.c_uint32(mask))
        if number >= 0:
            self._folders[number] = folder
        return bool(number >= 0)

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for something to happen; say whether it did."""
        return bool(select.select([self._file], [], [], timeout)[0])

    def happenings(self) -> Iterator[Happening]:
        """Yield what has happened."""
        if not self.wait(0):
            return
        data = os.read(self._file, 1 << 16)
        while data:
            number, mask, _, length = _HEAD.unpack_from(data)
            name = data[_HEAD.size : _HEAD.size + length].rstrip(b"\0")
            data = data[_HEAD.size + length :]
            if number in self._folders:
                yield Happening(self._folders[number], os.fsdecode(name), mask & ~_IS_FOLDER)

    def close(self) -> None:
        os.close(self._file)
        self.closed = True
