"""A benchmark as a command, and all of them as one: what is asked for, the machine, the tables, the aims."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from aims import Figure, aims_table
from measuring import Contestant, race, say, shown
from places import Place, asked, cache_folder, find_places
from showing import describe, judge, load, table

__all__ = ["Benchmark", "Outcome", "Setting", "main"]

SHORT_PLACES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """Where to measure, and how long. `folder` is an empty one for projects, `cache_dir` the plugin's cache."""

    rounds: int
    short: bool
    base: str
    places: Sequence[Place]
    folder: Path
    cache_dir: Path

    def race(self, contestants: Sequence[Contestant], *, share: int = 1) -> None:
        """Run the trials; one round of `share` rounds, where they are slow."""
        if self.short:
            race(contestants, 1, warm_up=False)
        else:
            race(contestants, max(1, self.rounds // share))


@dataclass(kw_only=True, slots=True)
class Outcome:
    """What a benchmark has found: a table of `rows`, or `text`, and the figures that have aims."""

    title: str
    contestants: Sequence[Contestant] = ()
    rows: Sequence[str] = ()
    text: str = ""
    on_top: Sequence[str] = ()
    versions: Sequence[str] = ()
    remarks: Sequence[str] = ()
    figures: list[Figure] = field(default_factory=list)


Benchmark = Callable[[Setting], Outcome]


def main(description: str | None, rounds: int, *benchmarks: Benchmark) -> int:
    """Run benchmarks one after the other; print their tables, and one of their figures beside the aims."""
    chosen = asked(description, rounds=rounds)
    before = load()
    outcomes = []
    with ExitStack() as stack:
        cache_dir = stack.enter_context(cache_folder())
        places = find_places(chosen.docker, cache_dir)
        if chosen.short and not chosen.docker:
            places = places[:SHORT_PLACES]
        for benchmark in benchmarks:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="imagebuild-benchmark-")))
            say(f"{benchmark.__name__} ...")
            setting = Setting(
                rounds=chosen.rounds,
                short=chosen.short,
                base=chosen.base,
                places=places,
                folder=folder.resolve(),
                cache_dir=cache_dir,
            )
            begun = time.monotonic()
            outcomes.append(benchmark(setting))
            say(f"after {time.monotonic() - begun:.0f} s:")
    versions = dict.fromkeys(version for outcome in outcomes for version in outcome.versions)
    print(describe(*versions, *(f"{place.engine} {place.version}" for place in places)))
    print(judge(before, load()))
    print(f"medians of {'one round' if chosen.short else shown(chosen.rounds)}; image: {chosen.base}")
    for outcome in outcomes:
        _show(outcome)
    found = [figure for outcome in outcomes for figure in outcome.figures]
    if found:
        print(f"\n{aims_table(found)}")
    return 1 if not chosen.short and any(figure.missed for figure in found) else 0


def _show(outcome: Outcome) -> None:
    compared = len(outcome.contestants) > 1
    print(
        f"\n{outcome.title}{f'; in parentheses the ratio to {outcome.contestants[0].name}' if compared else ''}", end=""
    )
    print(f",\nof these the difference from it: {', '.join(outcome.on_top)}" if compared and outcome.on_top else "")
    for remark in outcome.remarks:
        print(remark)
    print(f"\n{outcome.text or table(outcome.contestants, outcome.rows, on_top=outcome.on_top)}")
