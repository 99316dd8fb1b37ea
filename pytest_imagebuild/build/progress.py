"""What a build tells while it runs. The terminal listens; a build never writes to it."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Display", "Heard", "NullProgress", "Progress", "Tally"]


class Progress(Protocol):
    """Hears of the layers of a run. Called from several threads. `layer` names one layer for the whole run."""

    def begun(self, layer: str, image: str, title: str) -> None:
        """A layer is being made: pinned, or built."""

    def said(self, layer: str, line: str) -> None:
        """A layer in the making printed a line."""

    def built(self, layer: str, seconds: float) -> None:
        """The layer is there."""

    def pinned(self, layer: str, seconds: float) -> None:
        """The lockfile says what the layer installs; it was not built."""

    def failed(self, layer: str) -> None:
        """The layer could not be made."""

    def reused(self, layer: str) -> None:
        """The layer is there already, as it turned out once its pins were known or another build had ended."""

    def missed(self, title: str, reason: str) -> None:
        """The layer `title` was not in the cache, because of `reason`."""


class Display(Progress, Protocol):
    """A progress that is shown somewhere, while builds run."""

    def showing(self) -> AbstractContextManager[None]:
        """Show what happens meanwhile."""

    def note(self, text: str) -> None:
        """Show a line of its own."""


class NullProgress:
    """Hears nothing."""

    def begun(self, layer: str, image: str, title: str) -> None:
        """Ignore it."""

    def said(self, layer: str, line: str) -> None:
        """Ignore it."""

    def built(self, layer: str, seconds: float) -> None:
        """Ignore it."""

    def pinned(self, layer: str, seconds: float) -> None:
        """Ignore it."""

    def failed(self, layer: str) -> None:
        """Ignore it."""

    def reused(self, layer: str) -> None:
        """Ignore it."""

    def missed(self, title: str, reason: str) -> None:
        """Ignore it."""


class Heard:
    """Passes on what it hears, and notes the lines of some layers in `lines`.

    `definitions` are those of the layers: a layer's name begins with its own.
    """

    def __init__(self, progress: Progress, definitions: Collection[str], lines: list[str]) -> None:
        self._progress = progress
        self._definitions = frozenset(definitions)
        self._lines = lines

    def said(self, layer: str, line: str) -> None:
        """Note it, and pass it on."""
        if layer.partition(":")[0] in self._definitions:
            self._lines.append(line)
        self._progress.said(layer, line)

    def begun(self, layer: str, image: str, title: str) -> None:
        """Pass it on."""
        self._progress.begun(layer, image, title)

    def built(self, layer: str, seconds: float) -> None:
        """Pass it on."""
        self._progress.built(layer, seconds)

    def pinned(self, layer: str, seconds: float) -> None:
        """Pass it on."""
        self._progress.pinned(layer, seconds)

    def failed(self, layer: str) -> None:
        """Pass it on."""
        self._progress.failed(layer)

    def reused(self, layer: str) -> None:
        """Pass it on."""
        self._progress.reused(layer)

    def missed(self, title: str, reason: str) -> None:
        """Pass it on."""
        self._progress.missed(title, reason)


@dataclass(kw_only=True, slots=True)
class Tally:
    """Counts of a run, for its summary line. `seconds` is the time spent building, summed over layers."""

    reused: int = 0
    built: int = 0
    seconds: float = 0.0

    def add(self, other: Tally) -> None:
        """Add the counts of another process of the same run."""
        self.reused += other.reused
        self.built += other.built
        self.seconds += other.seconds
