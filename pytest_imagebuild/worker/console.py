"""What stands in for the user's terminal in a container: a pseudo-terminal, or a pipe for what is typed.

Runs in the container: imports the standard library only.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
from collections.abc import Mapping
from typing import Any

from pytest_imagebuild.worker.streams import Outbox

__all__ = ["Console"]

_LAST_WORDS_SECONDS = 1.0


class Console:
    """The supervisor's end of it. `typed` is the pipe, `output` where a pseudo-terminal is read, once there is one."""

    def __init__(self, typed: int, poll: select.poll) -> None:
        self._typed = typed
        self._poll = poll
        self._slave: int | None = None
        self._outbox: Outbox | None = None
        self._has_ended = False
        self.output: int | None = None

    @property
    def writes_to(self) -> int | None:
        """Where what is typed goes."""
        return self._outbox.fd if self._outbox is not None else None

    def open(self, request: Mapping[str, Any]) -> dict[str, object]:
        """Make it as the controller's terminal is, if it was not made before. Returns what the worker is told."""
        if not request["whole"]:
            if self._outbox is None and not self._has_ended:
                self._outbox = Outbox(self._typed, self._poll)
            return {"path": None, "columns": request["columns"]}
        try:
            if self._slave is None:
                self._make_terminal()
            self.resize(request)
            assert self._slave is not None  # noqa: S101 - it was made
            return {"path": os.ttyname(self._slave), "term": request["term"]}
        except OSError as error:
            return {"problem": str(error)}

    def resize(self, request: Mapping[str, Any]) -> None:
        """Give it the size of the controller's: `rows` and `columns`."""
        if self.output is not None:
            size = struct.pack("HHHH", int(request["rows"]), int(request["columns"]), 0, 0)
            fcntl.ioctl(self.output, termios.TIOCSWINSZ, size)

    def type(self, text: str) -> None:
        """Pass on what was typed, a character a byte; "" says that there is no more."""
        if self._outbox is None:
            return
        if text:
            self._outbox.send(text.encode("latin-1"))
        elif self.output is None:
            self._end()

    def flush(self) -> None:
        """Pass on more, now that there is room."""
        if self._outbox is not None:
            self._outbox.flush()

    def _make_terminal(self) -> None:
        master, self._slave = os.openpty()
        os.set_blocking(master, False)
        # A descriptor of its own, as what is polled for room is not polled for data.
        self.output, self._outbox = master, Outbox(os.dup(master), self._poll)

    def _end(self) -> None:
        outbox, self._outbox, self._has_ended = self._outbox, None, True
        if outbox is not None:
            outbox.flush_all(_LAST_WORDS_SECONDS)
            if len(outbox):
                self._poll.unregister(outbox.fd)
            os.close(outbox.fd)
