"""A gate at which a step or a test in a container waits until the test outside has seen what it wanted to see."""

from __future__ import annotations

import contextlib
import socket
from types import TracebackType
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Gate"]


@final
class Gate:
    """Shut from the beginning of a block, at an address of this machine, until it is opened or the block ends.

    `wait` is Python that goes on when it is open. It has no double quotes, so that a shell can have it between some.
    """

    def __init__(self, host: str) -> None:
        self._listener = socket.create_server((host, 0))
        self._listener.setblocking(False)
        self._visitors: list[socket.socket] = []
        address = self._listener.getsockname()[:2]
        self.wait = f"import socket; gate = socket.socket(); gate.connect_ex({address!r}) or gate.recv(1)"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open()

    def reached(self) -> bool:
        """Say whether somebody waits, or has waited."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._visitors.append(self._listener.accept()[0])
        return bool(self._visitors)

    def open(self) -> None:
        """Let all who wait go on, and all who come later."""
        if self._listener.fileno() != -1:
            # Who was not let in before it is shut down would be told of an error.
            self.reached()
        for waiting in (self._listener, *self._visitors):
            waiting.close()
