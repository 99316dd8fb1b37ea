"""Pipes that never make the supervisor wait. Runs in the container: imports the standard library only."""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Iterator

__all__ = ["Inbox", "Outbox", "read_available"]

_CHUNK = 65536
_WRITE = 1024 * 1024


def read_available(fd: int, limit: int) -> bytes | None:
    """Read what is in a non-blocking pipe or terminal now, up to about `limit` bytes; None at its end.

    A terminal gives a part at a time, so only one that would wait has no more.
    """
    parts: list[bytes] = []
    size = 0
    while size < limit:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            break
        if not data:
            return b"".join(parts) or None
        parts.append(data)
        size += len(data)
    return b"".join(parts)


class Outbox:
    """Writes to a pipe as much as fits, and the rest when `poll` says that there is room.

    A reader that is gone raises BrokenPipeError.
    """

    def __init__(self, fd: int, poll: select.poll) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self._poll = poll
        self._kept = bytearray()

    def __len__(self) -> int:
        return len(self._kept)

    def send(self, data: bytes) -> None:
        """Write `data`, or keep what does not fit now."""
        if not self._kept:
            written = self._write(data)
            if written == len(data):
                return
            data = data[written:]
            self._poll.register(self.fd, select.POLLOUT)
        self._kept += data

    def flush(self) -> None:
        """Write more of what was kept."""
        del self._kept[: self._write(self._kept[:_WRITE])]
        if not self._kept:
            self._poll.unregister(self.fd)

    def flush_all(self, seconds: float) -> None:
        """Write all that was kept, for at most `seconds`."""
        end = time.monotonic() + seconds
        while self._kept and time.monotonic() < end:
            self.flush()
            if self._kept:
                time.sleep(0.002)

    def _write(self, data: bytes | bytearray) -> int:
        try:
            return os.write(self.fd, data)
        except BlockingIOError:
            return 0


class Inbox:
    """Splits what the controller sends into request lines and the raw bytes that follow a `setup`."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._raw = 0

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """Yield the kind of each request with its line, and "" with raw bytes. Raises ValueError on garbage."""
        while data:
            if self._raw:
                part, data = data[: self._raw], data[self._raw :]
                self._raw -= len(part)
                yield "", part
                continue
            part, newline, data = data.partition(b"\n")
            self._line += part
            if newline:
                line = bytes(self._line) + b"\n"
                self._line.clear()
                request = json.loads(line)
                if request["type"] == "setup":
                    self._raw = int(request["payload"])
                yield request["type"], line
