"""Start processes that the kernel kills when this process dies.

The kernel sends the signal that a child asked for when the *thread* that made it ends (prctl(2), PR_SET_PDEATHSIG), so
all of them are made by one thread, which lives as long as the engine.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import IO, Any

from pytest_imagebuild.errors import EngineError

__all__ = ["Spawner"]

_File = int | IO[Any] | None
_Order = tuple[Sequence[str], dict[str, Any], "Future[subprocess.Popen[bytes]]"]


class Spawner:
    """One thread that starts processes for all others."""

    def __init__(self) -> None:
        self._orders: SimpleQueue[_Order | None] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def start(
        self, command: Sequence[str], *, stdin: _File, stdout: _File, stderr: _File, pass_fds: Sequence[int]
    ) -> subprocess.Popen[bytes]:
        """Start `command` in a session of its own. Raises EngineError where it cannot be started."""
        started: Future[subprocess.Popen[bytes]] = Future()
        settings: dict[str, Any] = {
            "stdin": stdin,
            "stdout": stdout,
            "stderr": stderr,
            "pass_fds": tuple(pass_fds),
            "start_new_session": True,
            "bufsize": 0,
            "cwd": "/",
            "env": {},
        }
        with self._starting:
            if self._closed:
                raise EngineError("the embedded engine was closed while it should start a container")
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="imagebuild-spawner", daemon=True)
                self._thread.start()
            self._orders.put((command, settings, started))
        try:
            return started.result()
        except OSError as error:
            raise EngineError(f"{command[0]} cannot be started: {error}") from error

    def close(self) -> None:
        """End the thread, and with it every process that is left. Calling it again does nothing."""
        with self._starting:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            self._orders.put(None)
            thread.join()

    def _serve(self) -> None:
        while (order := self._orders.get()) is not None:
            command, settings, started = order
            try:
                child: Any = subprocess.Popen(command, **settings)
                started.set_result(child)
            except BaseException as error:  # noqa: BLE001 - it is raised where it was asked for
                started.set_exception(error)
