"""The only writer to the terminal: live build progress, the header line, the summary line."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

__all__ = ["BuildDisplay", "image_lines", "summary_line"]

_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b.|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
REFRESH = 8
LINE_LIMIT = 300
_CATEGORIES = ("failed", "passed", "skipped", "xfailed", "xpassed", "error", "rerun")


@dataclass(slots=True)
class _Row:
    image: str
    title: str
    begun: float
    last: str = ""


@dataclass(slots=True)
class BuildDisplay:
    """Shows layers in the making. Live rows where `stream` is a terminal, plain lines where not, nothing when `quiet`.

    `verbose` adds the reason of each cache miss and, in plain mode, every line of a build's output.
    """

    stream: TextIO
    quiet: bool = False
    verbose: bool = False
    _rows: dict[str, _Row] = field(default_factory=dict)
    _guard: threading.RLock = field(default_factory=threading.RLock)
    _live: Live | None = None

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Show what happens meanwhile."""
        try:
            yield
        finally:
            with self._guard:
                if self._live:
                    self._live.stop()
                    self._live = None

    def begun(self, layer: str, image: str, title: str) -> None:
        """A layer is being made."""
        with self._guard:
            self._rows[layer] = _Row(image=image, title=title, begun=time.monotonic())
            if self.quiet:
                return
            if self.stream.isatty():
                self._refresh()
            elif self.verbose:
                self._print(f"{image}: {title} ...")

    def said(self, layer: str, line: str) -> None:
        """A layer in the making printed a line."""
        with self._guard:
            row = self._rows.get(layer)
            if row is None or self.quiet:
                return
            row.last = _plain(line)
            if self.verbose and not self.stream.isatty():
                self._print(f"{row.image}: | {row.last}")

    def built(self, layer: str, seconds: float) -> None:
        """The layer is there."""
        self._settled(layer, f"built in {seconds:.1f}s")

    def pinned(self, layer: str, seconds: float) -> None:
        """The lockfile says what the layer installs."""
        self._settled(layer, f"locked in {seconds:.1f}s")

    def failed(self, layer: str) -> None:
        """The layer could not be made."""
        self._settled(layer, "FAILED")

    def reused(self, layer: str) -> None:
        """The layer is there already."""
        self._settled(layer, "found in the cache")

    def missed(self, title: str, reason: str) -> None:
        """A layer was not in the cache."""
        if self.verbose and not self.quiet:
            with self._guard:
                self._print(f"not cached: {title}: {reason}")

    def note(self, text: str) -> None:
        """Print a line of its own."""
        if not self.quiet:
            with self._guard:
                self._print(text)

    def _settled(self, layer: str, how: str) -> None:
        with self._guard:
            row = self._rows.pop(layer, None)
            if row and not self.quiet:
                self._print(f"{row.image}: {row.title}: {how}")

    def _print(self, text: str) -> None:
        if self._live:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            self.stream.write(f"imagebuild: {text}\n")
            self.stream.flush()

    def _refresh(self) -> None:
        if self._live is None:
            from rich.console import Console  # noqa: PLC0415 - only a build on a terminal needs rich
            from rich.live import Live  # noqa: PLC0415

            console = Console(file=self.stream)
            self._live = Live(console=console, get_renderable=self._table, refresh_per_second=REFRESH, transient=True)
            self._live.start()

    def _table(self) -> Table:
        from rich.table import Table  # noqa: PLC0415 - see above
        from rich.text import Text  # noqa: PLC0415

        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, ratio=1, overflow="ellipsis")
        now = time.monotonic()
        # Without the guard: rich calls this while it holds its own lock, and others print with the guard held.
        for row in tuple(self._rows.values()):
            title = Text(f"{row.image}: {row.title}")
            table.add_row(title, Text(f"{now - row.begun:.0f}s", style="cyan"), Text(row.last, style="dim"))
        return table


def image_lines(stats: Mapping[str, Iterable[object]], labels: Iterable[str]) -> list[str]:
    """Return a line for each of several images that tests ran in: how many of them passed, failed, ...

    `stats` are the reports by their category, as pytest's terminal reporter keeps them; `labels` are what the ids of
    tests show of their images, as the first of their parameters.
    """
    lines = []
    for label in sorted(labels):
        shown = re.compile(rf"\[{re.escape(label)}[-\]]")
        counts = {
            category: sum(bool(shown.search(getattr(report, "nodeid", ""))) for report in reports)
            for category, reports in stats.items()
            if category in _CATEGORIES
        }
        told = [f"{counts[category]} {category}" for category in _CATEGORIES if counts.get(category)]
        lines.append(f"imagebuild ({label}): {', '.join(told) or 'no tests ran'}")
    return lines


def summary_line(counts: Iterable[Mapping[str, float | str]]) -> str:
    """Return the summary of a run: layers reused and built, the time spent building, and containers that had waited.

    `counts` has one mapping for each process of the run: `reused`, `built`, `seconds`, `engine`, `kept`.
    """
    every = list(counts)
    # A layer that one xdist worker built is reused by the others: only the highest count is one of distinct layers.
    built = sum(int(one["built"]) for one in every)
    reused = max((int(one["reused"]) + int(one["built"]) for one in every), default=0) - built
    seconds = sum(float(one["seconds"]) for one in every)
    engines = ", ".join(sorted({str(one["engine"]) for one in every if one["engine"]}))
    text = f"imagebuild ({engines}): layers: reused {max(reused, 0)}, built {built}"
    kept = sum(int(one["kept"]) for one in every)
    text = f"{text} in {seconds:.1f}s" if built else text
    return f"{text}; containers kept: {kept}" if kept else text


def _plain(line: str) -> str:
    return _CONTROL.sub("", line)[:LINE_LIMIT]
