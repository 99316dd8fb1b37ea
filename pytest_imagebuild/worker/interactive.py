"""The user's terminal in the place of the worker's standard streams, for a debugger or a shell.

Runs in the container: imports the standard library only.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

__all__ = ["Interactive", "run_shell"]

_SHELLS = ("/bin/bash", "/bin/sh")
_NOT_EXECUTABLE = 126


class Interactive:
    """Asks the controller for its terminal, and gives it back.

    `ask` tells the controller; it returns what the supervisor has made for that: the `path` of a terminal, and `term`,
    its kind; or no path, if what is typed comes through the pipe `typed`, and the output stays what it is and is to be
    `columns` wide; or `problem`, why there is nothing; None if the controller has nothing to lend.
    """

    def __init__(
        self, typed: int, ask: Callable[[bool], Mapping[str, Any] | None], give_back: Callable[[], None]
    ) -> None:
        self._typed = typed
        self._ask = ask
        self._give_back = give_back
        self._saved: dict[int, int] = {}
        self._device: tuple[int, int] | None = None
        self._variables: dict[str, str | None] = {}
        self._lent = False

    def open(self, *, shown: bool = False) -> None:
        """Put the terminal in place, unless it is there. With `shown`, the last failure is shown on it.

        Where there is none, the streams stay as they are: the input is at its end.
        """
        place = self._ask(shown)
        if place is None or self._lent:
            return
        self._lent = True
        if "problem" in place:
            os.write(2, f"There can be no terminal in this container: {place['problem']}.\n".encode())
            return
        _flush()
        if place["path"] is None:
            self._put(self._typed, (0,))
            self._set("COLUMNS", str(place["columns"]))
            return
        # Without O_NOCTTY: it becomes the controlling terminal, so that Ctrl-C reaches this process.
        terminal = os.open(place["path"], os.O_RDWR)
        self._put(terminal, (0, 1, 2))
        os.close(terminal)
        self._set("TERM", place["term"])

    def close(self) -> None:
        """Give it back. A stream that something else was put on meanwhile, as pytest's capture, stays that."""
        if not self._lent:
            return
        self._lent = False
        _flush()
        while self._variables:
            _put_variable(*self._variables.popitem())
        for fd, saved in self._saved.items():
            if _identity(fd) == self._device:
                os.dup2(saved, fd)
            os.close(saved)
        self._saved.clear()
        self._give_back()

    def _set(self, name: str, value: str | None) -> None:
        self._variables[name] = os.environ.get(name)
        _put_variable(name, value)

    def _put(self, source: int, streams: tuple[int, ...]) -> None:
        self._device = _identity(source)
        for fd in streams:
            self._saved[fd] = os.dup(fd)
            os.dup2(source, fd)


def run_shell(interactive: Interactive, path: list[str]) -> int:
    """Run a shell on the user's terminal, which finds Python modules in the folders of `path`. Returns its status."""
    program = next((shell for shell in (os.environ.get("SHELL"), *_SHELLS) if shell and os.access(shell, os.X_OK)), "")
    inherited = os.environ.get("PYTHONPATH")
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([*path, *([inherited] if inherited else [])])}
    interactive.open()
    try:
        if not program:
            os.write(2, f"The image has no shell: {' and '.join(_SHELLS)} are not there.\n".encode())
            return _NOT_EXECUTABLE
        with subprocess.Popen([program], env=variables) as shell:
            while True:
                # Ctrl-C is for what runs in the shell.
                with suppress(KeyboardInterrupt):
                    return _status(shell.wait())
    finally:
        interactive.close()


def _put_variable(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _status(code: int) -> int:
    return code if code >= 0 else 128 - code


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # A test may have closed it.
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
