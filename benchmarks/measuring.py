"""Times of several contestants, side by side: in turns, so that what disturbs the machine disturbs all of them.

A trial does something once and returns what it took, by the rows of the table to be. In each round every trial of every
contestant is run once, and each round begins with another contestant. Ratios are taken within a round.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

__all__ = ["Contestant", "Took", "Trial", "further", "one_row", "race", "say", "shown", "timed"]

T = TypeVar("T")

SETTLING_SECONDS = 0.2
"""Between two trials. A daemon goes on to clear up after the one before."""

SLOW_SECONDS = 20.0
SLOW_ROUNDS = 3
"""A trial that takes longer than `SLOW_SECONDS` is run in the first rounds only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Took:
    """Seconds by the clock, and of processors: user and system, of this process and those that it waited for."""

    wall: float
    processor: float


Trial = Callable[[], Mapping[str, Took]]


@dataclass(kw_only=True, slots=True)
class Contestant:
    """A column of the table: what it takes part in, and its times by row, one for each round.

    `engine` is that of the plugin, if it is one.
    """

    name: str
    engine: str = ""
    trials: Sequence[Trial] = ()
    times: dict[str, list[Took]] = field(default_factory=dict)


def timed(call: Callable[[], T]) -> tuple[Took, T]:
    """Return what a call takes, and its result."""
    used, begun = _processor_time(), time.perf_counter()
    result = call()
    wall = time.perf_counter() - begun
    return Took(wall=wall, processor=_processor_time() - used), result


def one_row(row: str, call: Callable[[], object]) -> Mapping[str, Took]:
    """Make a trial of a call: bind both arguments."""
    return {row: timed(call)[0]}


def race(contestants: Sequence[Contestant], rounds: int, *, warm_up: bool = True) -> None:
    """Run each trial of each contestant `rounds` times; a slow one less often.

    Each runs once before, untimed, unless there is to be no `warm_up`.
    """
    heats = [(contestant, trial) for contestant in contestants for trial in contestant.trials]
    seconds = {}
    for place, (_, trial) in enumerate(heats if warm_up else ()):
        begun = time.perf_counter()
        trial()
        seconds[place] = time.perf_counter() - begun
    for turn in range(rounds):
        say(f"round {turn + 1} of {rounds}")
        for step in range(len(heats)):
            place = (step + turn) % len(heats)
            contestant, trial = heats[place]
            if turn < SLOW_ROUNDS or seconds.get(place, 0.0) <= SLOW_SECONDS:
                time.sleep(SETTLING_SECONDS)
                for row, took in trial().items():
                    contestant.times.setdefault(row, []).append(took)


def shown(rounds: int) -> str:
    """Return how often a trial is run, in words."""
    return f"{rounds} rounds" if rounds <= SLOW_ROUNDS else f"{rounds} rounds ({SLOW_ROUNDS} of what is slow)"


def further(contestant: Contestant, row: str, few: tuple[str, int], many: tuple[str, int]) -> None:
    """Add a row of what one more takes: the difference of two rows, each given with its number, shared out."""
    pairs = zip(contestant.times.get(few[0], ()), contestant.times.get(many[0], ()), strict=False)
    number = many[1] - few[1]
    contestant.times[row] = [
        Took(wall=(more.wall - less.wall) / number, processor=(more.processor - less.processor) / number)
        for less, more in pairs
    ]


def _processor_time() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def say(text: str) -> None:
    """Tell what is being done; the standard output is for the results."""
    print(text, file=sys.stderr, flush=True)
