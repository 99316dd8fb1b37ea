"""Waiting for what another process does, and looking for texts in streams of bytes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["holds", "keepers", "wait_until"]


def wait_until(what: str, holds: Any, *, timeout: float = 60) -> Any:
    """Return the first true value of `holds()`; fail with `what` was waited for when none comes in time."""
    end = time.monotonic() + timeout
    while not (value := holds()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout} s in vain for: {what}")
        time.sleep(0.05)
    return value


def keepers(cache_dir: Path) -> list[int]:
    """Return the ids of the processes that keep containers for the next run with a cache folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if any(word.endswith("keeping/__main__.py") for word in words) and str(cache_dir) in words:
                found.append(int(folder.name))
    return found


def holds(chunks: Iterable[bytes], *markers: str) -> list[str]:
    """Return which of `markers` are found in a stream of bytes."""
    wanted = {marker: marker.encode() for marker in markers}
    longest = max(len(value) for value in wanted.values())
    found: dict[str, None] = {}
    for window in _windows(chunks, longest):
        found.update({marker: None for marker, value in wanted.items() if value in window})
    return list(found)


def _windows(chunks: Iterable[bytes], overlap: int) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        window = rest + chunk
        yield window
        rest = window[-overlap:]
