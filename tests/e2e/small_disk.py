"""A small disk in memory, which can be filled."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

__all__ = ["MEBIBYTE", "SmallDisk"]

MEBIBYTE = 1 << 20


class SmallDisk:
    """A disk that is mounted at `folder`, which is made."""

    def __init__(self, folder: Path, *, mebibytes: int) -> None:
        self.folder = folder
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "none", folder], check=True)

    @contextlib.contextmanager
    def filled(self, *, but: int = 0) -> Iterator[None]:
        """Leave `but` bytes meanwhile."""
        filler = self.folder / "filler"
        room = os.statvfs(self.folder)
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - but)
        try:
            yield
        finally:
            filler.unlink()

    def unmount(self) -> None:
        """Let it go, with what is on it."""
        subprocess.run(["umount", "--lazy", self.folder], check=True)
