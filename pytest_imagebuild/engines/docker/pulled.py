"""Which images we pulled: Docker cannot tell them from those that the user pulled himself."""

from __future__ import annotations

import time
from pathlib import Path

__all__ = ["Pulled"]

# A pulled image is not a layer yet; the layer on top of it follows at once.
_SETTLED_SECONDS = 3600


class Pulled:
    """Notes of pulls by digest, one file each. A note is written before the pull begins."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def note(self, digest: str) -> None:
        """Note that we pull the image of a digest."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path(digest).touch()

    def digests(self, *, settled: bool = False) -> list[str]:
        """Return the digests of what we pulled; `settled` leaves out what a layer may be about to stand on."""
        if not self._folder.is_dir():
            return []
        before = time.time() - _SETTLED_SECONDS if settled else float("inf")
        return sorted(f"sha256:{path.name}" for path in self._folder.iterdir() if path.stat().st_mtime < before)

    def forget(self, digest: str) -> None:
        """Remove the note of an image that is gone."""
        self._path(digest).unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")
