"""The worker's end of the wire. Runs in the container: imports the standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_imagebuild.worker.protocol import encode

__all__ = ["Requests", "Wire"]

_CHUNK = 1024 * 1024


class Wire:
    """Sends messages. In a process that a test forked it does nothing: only the worker speaks to the controller."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd
        self._held = b""
        self._stays_open = False
        os.register_at_fork(after_in_child=self._close)

    @contextlib.contextmanager
    def passed_on(self) -> Iterator[None]:
        """Let a process that is forked in this block speak for the worker."""
        self._stays_open = True
        try:
            yield
        finally:
            self._stays_open = False

    def hold(self, message: Mapping[str, object]) -> None:
        """Keep `message` until the next one is sent. To wake three processes costs more than to run a small test."""
        self._held += encode(message)

    def send(self, message: Mapping[str, object]) -> None:
        """Write `message` as one whole line, even if a signal comes in between."""
        if self._fd is None:
            return
        data = memoryview(self._held + encode(message))
        self._held = b""
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def _close(self) -> None:
        if self._stays_open:
            self._stays_open = False
        elif self._fd is not None:
            os.close(self._fd)
            self._fd = None


class Requests:
    """Reads requests, and the raw bytes that follow a `setup`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._kept = bytearray()
        self._put_off: deque[dict[str, Any]] = deque()
        self._worker = os.getpid()

    def next(self) -> dict[str, Any]:
        """Wait for the next request. The end of the stream reads as `finish`."""
        return self._put_off.popleft() if self._put_off else self._next()

    def arrived(self) -> bool:
        """Say whether there is something to read, or nobody who will send anything."""
        return bool(self._kept) or bool(select.select([self._fd], [], [], 0)[0])

    def answer(self) -> dict[str, Any]:
        """Wait for the answer to what was asked; requests that were on their way are next after it.

        At the end of the stream, there is nobody to go on for.
        """
        self._worker = os.getpid()
        while (request := self._next())["type"] != "answer":
            if request["type"] == "finish":
                os._exit(1)
            self._put_off.append(request)
        return request

    def _next(self) -> dict[str, Any]:
        while (end := self._kept.find(b"\n")) < 0:
            data = self._read(_CHUNK)
            if not data:
                return {"type": "finish"}
            self._kept += data
        line = bytes(self._kept[:end])
        del self._kept[: end + 1]
        request: dict[str, Any] = json.loads(line)
        return request

    def read(self, size: int) -> bytes:
        """Read raw bytes: at most `size`, b"" at the end of the stream. A file object for `tarfile`."""
        if self._kept:
            data = bytes(self._kept[:size])
            del self._kept[:size]
            return data
        return self._read(min(size, _CHUNK))

    def _read(self, size: int) -> bytes:
        if os.getpid() != self._worker:
            # A test forked and let the copy return: it must not go on as a second worker.
            os._exit(1)
        return os.read(self._fd, size)
