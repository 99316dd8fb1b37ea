"""A pytest process that a test watches, kills, or lets run beside others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeVar, final

__all__ = ["Running"]

T = TypeVar("T")


@final
class Running:
    """A pytest process in `folder`, with its output in a file. It is killed at the latest when the block ends."""

    def __init__(self, folder: Path, *flags: str, environment: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        # What a shell starts in the background is deaf to Ctrl-C, and that is inherited.
        self._command = [
            "env",
            "--default-signal=INT,TERM,HUP",
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            *flags,
        ]
        self._environment = {**os.environ, **(environment or {})}
        self._log = folder.with_name(f"{folder.name}-{id(self)}.log")

    def __enter__(self) -> Running:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._log.unlink()

    def kill(self) -> None:
        """End it with SIGKILL, unless it has ended."""
        self._process.kill()
        self._process.wait(20)

    def send(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def children(self) -> list[int]:
        """Return the ids of its child processes that still run: the workers of xdist."""
        pid = self._process.pid
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in found if "Z" not in _state(child)]

    def kill_child(self, pid: int) -> None:
        """End a child with SIGKILL."""
        assert pid in self.children()
        os.kill(pid, signal.SIGKILL)

    def wait(self, timeout: float) -> int:
        """Wait until it ends by itself; return its exit code."""
        return self._process.wait(timeout)

    def while_alive(self, look: Callable[[], T]) -> Callable[[], T]:
        """Return a `look` that fails with the output when the process has ended: nothing more will come then."""

        def checked() -> T:
            assert self._process.poll() is None, f"the run ended before its time:\n{self.output}"
            return look()

        return checked

    @property
    def output(self) -> str:
        """What it printed until now."""
        return self._log.read_text()


def _state(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
