"""The attach stream of a container: bytes in, frames of its two outputs out."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import threading
import time
from collections import deque
from typing import Any

from pytest_imagebuild.errors import EngineError

__all__ = ["STDERR", "STDOUT", "AttachStream", "Frame"]

Frame = tuple[int, bytes]
STDOUT = 1
STDERR = 2

_HEADER = 8
_CHUNK = 256 * 1024
# What a container may say while it does not listen. A sender takes in what comes, or both sides would wait forever.
_MOST_UNREAD = 256 * 1024 * 1024
_BLOCKED = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class AttachStream:
    """A hijacked connection to a container without a terminal (Docker API, "attach": 8 bytes of header, then payload).

    One thread may send while another reads. No thread of its own: who waits, reads.
    """

    def __init__(self, attached: Any) -> None:
        self._attached = attached  # keeps the response, and with it the connection, alive
        self._socket = _socket_of(attached)
        self._socket.setblocking(False)
        self._calling = threading.Lock()  # a TLS object may not be used by two threads at once
        self._reading = threading.Lock()
        self._sending = threading.Lock()
        self._readers = 0
        self._demultiplexer = _Demultiplexer()
        self._ended = False
        self._closed = False

    def send(self, data: bytes) -> None:
        """Write all of `data`, however slowly the container reads it. Raises EngineError when it is gone."""
        rest = memoryview(data)
        with self._sending:
            while rest:
                if self._closed or self._ended:
                    raise EngineError("the container does not listen any more: it has ended")
                try:
                    with self._calling:
                        sent = self._socket.send(rest[:_CHUNK])
                except _BLOCKED:
                    self._wait_to_send()
                except OSError as error:
                    raise EngineError(f"the container does not listen any more: {error}") from error
                else:
                    rest = rest[sent:]

    def read(self, timeout: float | None) -> list[Frame] | None:
        """Return the frames that came; [] at the end; None when `timeout` seconds passed without one."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self._readers += 1
        try:
            if not self._reading.acquire(timeout=-1 if timeout is None else timeout):
                return None
            try:
                return self._read(deadline)
            finally:
                self._reading.release()
        finally:
            self._readers -= 1

    def close(self) -> None:
        """Close both directions; whoever waits here is woken. Calling it again does nothing."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        # The number of a closed file is given out anew at once, so nobody may be waiting on it then.
        with self._reading, self._sending:
            self._socket.close()
        # docker-py hangs the response, which holds the connection, on what it returns.
        response = getattr(self._attached, "_response", None)
        with contextlib.suppress(OSError):
            if response is not None:
                response.close()
            self._attached.close()

    def _read(self, deadline: float | None) -> list[Frame] | None:
        while True:
            frames = self._demultiplexer.take()
            if frames or self._ended or self._closed:
                return frames
            if not self._take_in():
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                _wait(self._socket, reading=True, writing=False, timeout=left)

    def _take_in(self) -> bool:
        """Read once without waiting; say whether something, or the end, was there."""
        try:
            with self._calling:
                data = self._socket.recv(_CHUNK)
        except _BLOCKED:
            return False
        except OSError:
            data = b""
        if data:
            self._demultiplexer.feed(data)
        else:
            self._ended = True
        return True

    def _wait_to_send(self) -> None:
        if self._readers or not self._reading.acquire(blocking=False):
            _wait(self._socket, reading=False, writing=True, timeout=0.05)
            return
        try:
            _wait(self._socket, reading=True, writing=True, timeout=0.5)
            self._take_in()
        finally:
            self._reading.release()
        if self._demultiplexer.unread > _MOST_UNREAD:
            raise EngineError(f"the container wrote {_MOST_UNREAD >> 20} MiB without reading what it was sent")


class _Demultiplexer:
    def __init__(self) -> None:
        self.unread = 0
        self._frames: deque[Frame] = deque()
        self._header = bytearray()
        self._stream = STDOUT
        self._missing = 0

    def feed(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            if self._missing:
                part = data[at : at + self._missing]
                self._frames.append((self._stream, part))
                self._missing -= len(part)
                self.unread += len(part)
                at += len(part)
                continue
            part = data[at : at + _HEADER - len(self._header)]
            self._header += part
            at += len(part)
            if len(self._header) == _HEADER:
                self._stream = self._header[0]
                self._missing = int.from_bytes(self._header[4:], "big")
                self._header.clear()

    def take(self) -> list[Frame]:
        frames = list(self._frames)
        self._frames.clear()
        self.unread = 0
        return frames


def _socket_of(attached: Any) -> socket.socket:
    """Return a socket to use freely. docker-py gives a `SocketIO` over a Unix or TCP socket, or a TLS socket."""
    if isinstance(attached, ssl.SSLSocket):
        return attached
    try:
        duplicate = socket.socket(fileno=os.dup(attached.fileno()))
    except (AttributeError, OSError) as error:
        message = "this kind of connection to Docker cannot carry a session; use a Unix or TCP socket"
        raise EngineError(message) from error
    if duplicate.family in (socket.AF_INET, socket.AF_INET6):
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        duplicate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return duplicate


def _wait(waiting: socket.socket, *, reading: bool, writing: bool, timeout: float | None) -> None:
    if reading and isinstance(waiting, ssl.SSLSocket) and waiting.pending():
        return
    if not hasattr(select, "poll"):
        select.select([waiting] if reading else [], [waiting] if writing else [], [], timeout)
        return
    poll = select.poll()
    poll.register(waiting, (select.POLLIN if reading else 0) | (select.POLLOUT if writing else 0))
    poll.poll(None if timeout is None else max(0, timeout) * 1000)
