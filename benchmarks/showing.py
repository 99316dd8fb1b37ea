"""A table of times, and what is needed to judge it: the machine, the versions, the load."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from measuring import Contestant

__all__ = ["columns", "counted", "describe", "judge", "load", "seconds", "table"]

BUSY = 1.0


def table(contestants: Sequence[Contestant], rows: Sequence[str], *, on_top: Sequence[str] = ()) -> str:
    """Return a table of medians in Markdown.

    In parentheses: the median ratio to the first contestant of the row; for the rows `on_top`, the difference from it.
    """
    lines = [["", *(contestant.name for contestant in contestants)]]
    for row in rows:
        lines.append([row, *_cells(contestants, row, "wall", differ=row in on_top)])
        lines.append(["  processor time", *_cells(contestants, row, "processor", differ=row in on_top)])
    return columns(lines)


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells, the heads first, as a table in Markdown."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(f"| {' | '.join(_padded(line, widths))} |" for line in (lines[0], rule, *lines[1:]))


def describe(*versions: str) -> str:
    """Return the machine, Python and pytest, and what else has a version."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    who = "root" if os.geteuid() == 0 else "an ordinary user"
    return "\n".join(
        [
            f"machine: {cores} cores ({_processor()}), {platform.system()} {platform.release()}, as {who}",
            f"versions: Python {platform.python_version()}, pytest {pytest.__version__}, {', '.join(versions)}",
        ]
    )


def counted(count: int, noun: str) -> str:
    """Return how many there are, in words."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def load() -> float:
    """Return the load average of the last minute."""
    return os.getloadavg()[0]


def judge(before: float, after: float) -> str:
    """Return the load average before and after, with a warning if it was too high."""
    text = f"load average: {before:.1f} at the start, {after:.1f} at the end, with the load of these runs"
    if max(before, after) <= BUSY:
        return text
    return (
        f"{text}\nWARNING: the load was above {BUSY:g}; times may be of other work. Measure again on a quiet machine."
    )


def _cells(contestants: Sequence[Contestant], row: str, kind: str, *, differ: bool) -> Iterator[str]:
    first: list[float] | None = None
    for contestant in contestants:
        times = [getattr(took, kind) for took in contestant.times.get(row, ())]
        shown = seconds(statistics.median(times)) if times else "-"
        if first is None and times:
            first = times
        elif first and times:
            shown += f" ({_difference(times, first) if differ else _ratio(times, first)})"
        yield shown


def _difference(times: Sequence[float], first: Sequence[float]) -> str:
    more = statistics.median(one - other for one, other in zip(times, first, strict=False))
    return f"{'+' if more >= 0 else ''}{seconds(more)}"


def _ratio(times: Sequence[float], first: Sequence[float]) -> str:
    # The clock of processors may stand still for a short while.
    ratios = [one / other for one, other in zip(times, first, strict=False) if other > 0]
    return f"{statistics.median(ratios):.2f}" if ratios else "-"


def seconds(duration: float) -> str:
    """Return a duration in words: seconds, or milliseconds below one."""
    milliseconds = duration * 1000
    if abs(milliseconds) >= 1000:
        return f"{duration:.2f} s"
    return f"{milliseconds:.{1 if abs(milliseconds) >= 10 else 2}f} ms"


def _padded(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *others = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
    return [line[0].ljust(len(first)), *others]


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
