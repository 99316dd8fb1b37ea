"""How much time there is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from pytest_imagebuild.session.messages import Asked, Terminal

__all__ = ["Clock", "deadline_in"]


class Clock:
    """The time that an item has left. What the host does for it, and what the user does in a debugger, is not in it."""

    def __init__(self, seconds: float | None) -> None:
        self.deadline = deadline_in(seconds)
        self._left: float | None = None

    @contextmanager
    def stopped_by(self, message: Asked | Terminal) -> Iterator[None]:
        """Stand still until a question is answered, or from the message that borrows the terminal to its return."""
        runs = self.deadline is not None
        if self.deadline is not None:
            self._left, self.deadline = self.deadline - time.monotonic(), None
        yield
        if self._left is not None and (runs if isinstance(message, Asked) else not message.open):
            self.deadline, self._left = deadline_in(self._left), None


def deadline_in(seconds: float | None) -> float | None:
    """Return when so many seconds are over, on the monotonic clock."""
    return None if seconds is None else time.monotonic() + seconds
