"""Lock files that every run holds. The kernel lets go of one when its process ends, however it ends.

They are what `filelock` makes of them, whose import takes longer than all that a run does with them.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["HeldFile"]

_open: set[int] = set()


class HeldFile:
    """A lock on a file, which is made if need be. Two of one file exclude each other, also in one process."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file: int | None = None

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock; with `wait=False`, return False where somebody has it."""
        while self._file is None:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(file).st_nlink > 0:
                    self._file = file
            except BlockingIOError:
                return False
            finally:
                # Else whoever had it has removed it meanwhile: the next one to come makes another.
                if self._file is None:
                    os.close(file)
        _open.add(self._file)
        return True

    def release(self) -> None:
        """Let go of it. Calling it again does nothing."""
        file, self._file = self._file, None
        if file in _open:
            _open.discard(file)
            fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def __del__(self) -> None:
        self.release()


def _leave_to_parent() -> None:
    """Close what a copy of the process has of them: it would hold them longer than the process."""
    while _open:
        os.close(_open.pop())


os.register_at_fork(after_in_child=_leave_to_parent)
