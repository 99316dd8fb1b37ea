"""A `Channel` over pipes: the three standard streams of the main process of a container."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable
from typing import IO

from pytest_imagebuild.errors import EngineError

__all__ = ["PipeChannel"]

_CHUNK = 256 * 1024
_MOST_ERROR_OUTPUT = 64 * 1024
# What a container may say while it does not listen. A sender takes in what comes, or both sides would wait forever.
_MOST_UNREAD = 256 * 1024 * 1024


class PipeChannel:
    """A byte stream to the main process of a container. No thread of its own: who waits, reads.

    Nothing is received before `check` has ended well.
    """

    def __init__(
        self, stdin: IO[bytes], stdout: IO[bytes], stderr: IO[bytes], *, check: Callable[[], None] | None = None
    ) -> None:
        self._check = check
        self._files = (stdin, stdout, stderr)
        self._in, self._out, self._err = (file.fileno() for file in self._files)
        for number in (self._in, self._out, self._err):
            os.set_blocking(number, False)
        self._woken, self._wake = os.pipe()
        self._receiving = threading.Lock()
        self._sending = threading.Lock()
        self._output = bytearray()
        self._errors = bytearray()
        self._open = {self._out, self._err}
        self._closed = False

    @property
    def streams(self) -> tuple[int, int, int]:
        """The file descriptors of input, output and error output, with which another process can do what this does."""
        return self._in, self._out, self._err

    def send(self, data: bytes) -> None:
        """Write all of `data`, however slowly the container reads it. Raises EngineError when it is gone."""
        rest = memoryview(data)
        with self._sending:
            while rest:
                if self._closed:
                    raise EngineError("the container does not listen any more: it has ended")
                try:
                    rest = rest[os.write(self._in, rest[:_CHUNK]) :]
                except BlockingIOError:
                    self._wait_to_send()
                except OSError as error:
                    raise EngineError(f"the container does not listen any more: {error}") from error

    def receive(self, timeout: float | None) -> bytes | None:
        """Return the next bytes of the output; b"" at its end; None when `timeout` seconds passed.

        Raises EngineError where the container was started from damaged files.
        """
        check, self._check = self._check, None
        if check is not None:
            check()
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._receiving.acquire(timeout=-1 if timeout is None else timeout):
            return None
        try:
            while not self._output and self._out in self._open and not self._closed:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                if not self._take_in(left, sending=False) and left is not None and left <= 0:
                    return None
            data = bytes(self._output)
            self._output.clear()
            return data
        finally:
            self._receiving.release()

    def error_output(self) -> bytes:
        """Return the last 64 KiB that came on the error output so far."""
        if self._receiving.acquire(blocking=False):
            try:
                while not self._closed and self._err in self._open and self._take_in(0, sending=False):
                    pass
            finally:
                self._receiving.release()
        return bytes(self._errors)

    def close(self) -> None:
        """Close both directions; whoever waits here is woken. Calling it again does nothing."""
        if self._closed:
            return
        self._closed = True
        os.close(self._wake)
        # The number of a closed file is given out anew at once, so nobody may be waiting on it then.
        with self._receiving, self._sending:
            self._drain()
            for file in self._files:
                with contextlib.suppress(OSError):
                    file.close()
            os.close(self._woken)

    def _drain(self) -> None:
        """Keep what was said last: it may tell why the container ended."""
        for number in tuple(self._open):
            self._read(number)

    def _take_in(self, timeout: float | None, *, sending: bool) -> bool:
        """Wait for something to read, or until the input takes something; say whether something was read."""
        poll = select.poll()
        for number in self._open:
            poll.register(number, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        if sending:
            poll.register(self._in, select.POLLOUT)
        ready = {number for number, _ in poll.poll(None if timeout is None else timeout * 1000)}
        read = [self._read(number) for number in ready & self._open]
        return any(read)

    def _read(self, number: int) -> bool:
        try:
            data = os.read(number, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._open.discard(number)
        elif number == self._out:
            self._output += data
        else:
            self._errors += data
            if len(self._errors) > _MOST_ERROR_OUTPUT:
                del self._errors[:-_MOST_ERROR_OUTPUT]
        return True

    def _wait_to_send(self) -> None:
        if not self._receiving.acquire(blocking=False):
            poll = select.poll()
            poll.register(self._in, select.POLLOUT)
            poll.poll(50)
            return
        try:
            self._take_in(0.5, sending=True)
            unread = len(self._output)
        finally:
            self._receiving.release()
        if unread > _MOST_UNREAD:
            raise EngineError(f"the container wrote {_MOST_UNREAD >> 20} MiB without reading what it was sent")
