"""The `Channel` of a session container: its standard streams, told apart."""

from __future__ import annotations

import threading
import time

from pytest_imagebuild.engines.docker.stream import STDERR, AttachStream, Frame

__all__ = ["AttachChannel"]

_MOST_ERROR_OUTPUT = 64 * 1024


class AttachChannel:
    """A byte stream to the main process of a container, over its attach connection."""

    def __init__(self, stream: AttachStream) -> None:
        self._stream = stream
        self._receiving = threading.Lock()
        self._output = bytearray()
        self._errors = bytearray()
        self._ended = False

    def send(self, data: bytes) -> None:
        """Write all of `data`. Raises EngineError when the other side is gone."""
        self._stream.send(data)

    def receive(self, timeout: float | None) -> bytes | None:
        """Return the next bytes of the output; b"" at its end; None when `timeout` seconds passed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._receiving:
            while not self._output and not self._ended:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                frames = self._stream.read(left)
                if frames is None:
                    return None
                self._sort(frames)
            data = bytes(self._output)
            self._output.clear()
            return data

    def error_output(self) -> bytes:
        """Return the last 64 KiB that came on the error output so far."""
        if self._receiving.acquire(blocking=False):
            try:
                frames = None if self._ended else self._stream.read(0)
                if frames is not None:
                    self._sort(frames)
            finally:
                self._receiving.release()
        return bytes(self._errors)

    def close(self) -> None:
        """Close both directions. Calling it again does nothing."""
        self._stream.close()

    def _sort(self, frames: list[Frame]) -> None:
        self._ended = not frames
        for stream, data in frames:
            if stream == STDERR:
                self._errors += data
            else:
                self._output += data
        if len(self._errors) > _MOST_ERROR_OUTPUT:
            del self._errors[:-_MOST_ERROR_OUTPUT]
