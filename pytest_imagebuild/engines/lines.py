"""Live output, line by line: nothing is kept but the end of it."""

from __future__ import annotations

import codecs
import time
from collections import deque
from collections.abc import Callable

__all__ = ["LineReader", "Tail"]

_LONGEST_LINE = 8192
# The end of a line that is cut stays with what follows: a mark that a reader looks for may begin there.
_KEPT = 256
_PROGRESS_SECONDS = 0.1


class Tail:
    """The last lines of an output, 64 KiB of them."""

    def __init__(self, most: int = 64 * 1024) -> None:
        self._most = most
        self._size = 0
        self._lines: deque[str] = deque()

    def add(self, line: str) -> None:
        """Take in one line without its newline."""
        self._lines.append(line)
        self._size += len(line) + 1
        while self._size > self._most and len(self._lines) > 1:
            self._size -= len(self._lines.popleft()) + 1

    def text(self) -> str:
        """Return the lines."""
        return "".join(f"{line}\n" for line in self._lines)


class LineReader:
    """Cuts one stream of bytes into lines.

    `line` gets every line; what a carriage return overwrites is not one. `progress` gets what a line shows meanwhile,
    now and then. Bytes that are not UTF-8 are replaced.
    """

    def __init__(self, line: Callable[[str], None], progress: Callable[[str], None]) -> None:
        self._line = line
        self._progress = progress
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._rest = ""
        self._shown = 0.0

    def feed(self, data: bytes) -> None:
        """Take in the next bytes."""
        *lines, self._rest = (self._rest + self._decode(data)).split("\n")
        for line in lines:
            self._line(_visible(line))
        if "\r" in self._rest:
            self._show_progress()
        while len(self._rest) > _LONGEST_LINE:
            cut = _LONGEST_LINE - _KEPT
            self._line(self._rest[:cut])
            self._rest = self._rest[cut:]

    def finish(self) -> None:
        """Hand out what no newline ended."""
        rest = self._rest + self._decode(b"", final=True)
        self._rest = ""
        if rest:
            self._line(_visible(rest))

    def _show_progress(self) -> None:
        # A newline may still follow the last carriage return, so what stands before it is kept.
        returned = self._rest.endswith("\r")
        shown = self._rest.rstrip("\r").split("\r")
        self._rest = shown[-1] + ("\r" if returned else "")
        text = shown[-1] if returned else shown[-2]
        now = time.monotonic()
        if text and now - self._shown >= _PROGRESS_SECONDS:
            self._shown = now
            self._progress(text)


def _visible(line: str) -> str:
    return line.rstrip("\r").rpartition("\r")[2]
