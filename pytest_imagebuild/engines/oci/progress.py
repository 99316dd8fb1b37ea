"""Progress lines of downloads that run at the same time."""

from __future__ import annotations

import threading
import time

from pytest_imagebuild.engines.protocol import Output

__all__ = ["Progress"]

_BETWEEN = 0.2


class Progress:
    """Writes one line at a time, and one about amounts at most every 0.2 s."""

    def __init__(self, subject: str, output: Output) -> None:
        self._subject = subject
        self._output = output
        self._lock = threading.Lock()
        self._shown = 0.0

    def status(self, digest: str, text: str) -> None:
        """Write what has become of a blob."""
        with self._lock:
            self._output(f"{self._subject}: {_short(digest)}: {text}")

    def amount(self, digest: str, done: int, size: int) -> None:
        """Write how much of a blob is here, if it is time."""
        with self._lock:
            now = time.monotonic()
            if now - self._shown > _BETWEEN:
                self._shown = now
                self._output(f"{self._subject}: {_short(digest)}: Downloading {_megabytes(done)}/{_megabytes(size)}")


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}MB"
