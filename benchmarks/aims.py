"""What is measured beside what is aimed at: one table of all benchmarks."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from measuring import Contestant, Took
from showing import columns, seconds

__all__ = ["Aims", "Figure", "aims_table", "figures"]

Aims = Mapping[str, float]
"""The most that it should be, by the name of an engine."""

Kind = Literal["time", "ratio", "more"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One figure. `value` and `aim` are seconds, but for a ratio."""

    case: str
    contestant: str
    kind: Kind
    value: float
    aim: float | None = None

    @property
    def missed(self) -> bool:
        """Whether it is more than it should be."""
        return self.aim is not None and self.value > self.aim

    @property
    def met(self) -> str:
        """Whether it is as it should be, in a word; empty where nothing says what it should be."""
        if self.aim is None:
            return ""
        return "NO" if self.missed else "yes"

    def shown(self, value: float | None) -> str:
        if value is None:
            return ""
        return f"{value:.3g} x" if self.kind == "ratio" else seconds(value)


def figures(
    case: str,
    contestants: Sequence[Contestant],
    row: str,
    *,
    kind: Kind = "time",
    aims: Aims | None = None,
    beside: Contestant | None = None,
    part: Literal["wall", "processor"] = "wall",
) -> list[Figure]:
    """Return the figures of a row: the median time, or the median ratio to, or difference from, what stands beside.

    The aim of `""` is for every engine.
    """
    found = []
    for contestant in contestants:
        times = _parts(contestant.times.get(row, ()), part)
        others = _parts(beside.times.get(row, ()), part) if beside is not None else []
        values = _values(times, others, kind)
        if contestant is not beside and values:
            aim = (aims or {}).get(contestant.engine, (aims or {}).get(""))
            value = statistics.median(values)
            found.append(Figure(case=case, contestant=contestant.name, kind=kind, value=value, aim=aim))
    return found


def aims_table(found: Sequence[Figure]) -> str:
    """Return all figures with their aims, in Markdown."""
    lines = [["case", "on", "measured", "aim", "met"]]
    lines += [[each.case, each.contestant, each.shown(each.value), _most(each), each.met] for each in found]
    return columns(lines)


def _most(figure: Figure) -> str:
    return f"<= {figure.shown(figure.aim)}" if figure.aim is not None else ""


def _parts(times: Sequence[Took], part: str) -> list[float]:
    return [getattr(took, part) for took in times]


def _values(times: Sequence[float], others: Sequence[float], kind: Kind) -> list[float]:
    if kind == "time":
        return list(times)
    pairs = zip(times, others, strict=False)
    if kind == "more":
        return [one - other for one, other in pairs]
    # The clock of processors may stand still for a short while.
    return [one / other for one, other in pairs if other > 0]
