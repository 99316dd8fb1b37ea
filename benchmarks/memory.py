"""How much memory the controller needs for many tests, beside plain pytest with the same tests.

`python benchmarks/memory.py [--rounds 3] [--short] [--docker ADDRESS ...]` runs 10,000 trivial tests on the host and
in a container of each engine, and notes the most memory that the process of pytest had: not that of workers. What the
tests add is the difference from a run of one test.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from aims import Figure
from measuring import say
from places import ALONE, TESTS, Place, call
from running import Outcome, Setting, main
from showing import columns

COUNT, SHORT_COUNT = 10_000, 100
MOST = 1.1
PROBE = """\
import re, sys, pytest
code = pytest.main(sys.argv[1:])
print("peak", re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], "peak")
sys.exit(code)
"""
MARKED = """\
from pytest_imagebuild import Image

pytestmark = pytest.mark.image(Image.from_registry("{base}"))
"""

Peak = Callable[[int], float]
"""Runs so many tests; returns the peak in MiB."""


@dataclass(kw_only=True, slots=True)
class Side:
    """Where the tests run, and the peaks in MiB of few and of many of them, one for each round."""

    name: str
    peak: Peak
    few: list[float] = field(default_factory=list)
    many: list[float] = field(default_factory=list)

    def added(self) -> float:
        return statistics.median(self.many) - statistics.median(self.few)


def memory(setting: Setting) -> Outcome:
    count = SHORT_COUNT if setting.short else COUNT
    for number in (1, count):
        for name, marked in (("host", ""), ("image", MARKED.format(base=setting.base))):
            (setting.folder / f"test_{name}_{number}.py").write_text(TESTS.format(marked=marked, count=number))
    (setting.folder / "pytest.ini").write_text("[pytest]\nmarkers = image\n")
    sides = [Side(name="plain pytest", peak=_on_host(setting))]
    sides += [Side(name=place.name, peak=_inside(setting, place)) for place in setting.places]
    plain, *ours = sides
    for side in ours if not setting.short else ():
        side.peak(1)  # which builds the image
    for turn in range(1 if setting.short else setting.rounds):
        say(f"memory: round {turn + 1}")
        for side in sides:
            side.few.append(side.peak(1))
            side.many.append(side.peak(count))
    found = [
        Figure(case=case, contestant=side.name, kind="ratio", value=value, aim=aim)
        for side in ours
        for case, value, aim in (
            (f"memory of {count:,} tests", statistics.median(side.many) / statistics.median(plain.many), None),
            (f"memory that {count:,} tests add", side.added() / max(plain.added(), 0.001), MOST),
        )
    ]
    return Outcome(title="Peak memory of the controller", text=_table(sides, count), figures=found)


def _on_host(setting: Setting) -> Peak:
    return lambda count: _peak(setting, [f"test_host_{count}.py"], ALONE)


def _inside(setting: Setting, place: Place) -> Peak:
    variables = {**ALONE, **place.variables(setting.cache_dir)}
    return lambda count: _peak(setting, ["-p", "imagebuild", f"test_image_{count}.py"], variables)


def _peak(setting: Setting, arguments: Sequence[str], variables: Mapping[str, str]) -> float:
    command = [sys.executable, "-c", PROBE, "-q", *arguments]
    return int(call(command, setting.folder, variables).split("peak")[1]) / 1024


def _table(sides: Sequence[Side], count: int) -> str:
    lines = [["", *(side.name for side in sides)]]
    lines.append(["1 test", *(f"{statistics.median(side.few):.1f} MiB" for side in sides)])
    lines.append([f"{count:,} tests", *(f"{statistics.median(side.many):.1f} MiB" for side in sides)])
    lines.append(["added by the tests", *(f"{side.added():.1f} MiB" for side in sides)])
    return columns(lines)


if __name__ == "__main__":
    sys.exit(main(__doc__, 3, memory))
