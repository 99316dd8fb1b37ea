"""What the plugin costs a project that has it installed and uses no image.

`python benchmarks/startup.py [--pairs 40] [--limit 10]`: pytest runs one trivial test with the plugin and without it
(`-p no:imagebuild`), the two side by side, in turns. Prints medians, and fails when the median difference in processor
time, which other processes disturb least, is above the limit, or when the run imports what only builds need.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

HEAVY = ("docker", "testcontainers", "rich", "requests", "filelock", "tomli_w")
PROBE = f"""
import sys, pytest
code = pytest.main(["-q"])
print("imported:", *[name for name in {HEAVY!r} if name in sys.modules])
sys.exit(code)
"""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two that are compared, and its times in milliseconds."""

    flags: tuple[str, ...] = ()
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def run(self, project: Path) -> None:
        used, begun = processor_time(), time.perf_counter()
        pytest_in(project, "-m", "pytest", "-q", *self.flags)
        self.wall.append((time.perf_counter() - begun) * 1000)
        self.processor.append((processor_time() - used) * 1000)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=40, help="how often each of the two runs (default: 40)")
    parser.add_argument("--limit", type=float, default=10, help="milliseconds (default: 10)")
    chosen = parser.parse_args()
    plugin, without = Side(), Side(flags=("-p", "no:imagebuild"))
    with tempfile.TemporaryDirectory(prefix="imagebuild-startup-") as folder:
        project = Path(folder)
        (project / "pytest.ini").write_text("[pytest]\n")
        (project / "test_trivial.py").write_text("def test_trivial():\n    pass\n")
        imported = heavy_imports(project)
        for turn in range(chosen.pairs):
            for side in (plugin, without) if turn % 2 else (without, plugin):
                side.run(project)
    print(f"{'medians of ' + str(chosen.pairs) + ' pairs, ms':28}{'wall':>8}{'processor':>11}")
    for name, side in (("pytest with the plugin", plugin), ("pytest without it", without)):
        print(f"{name:28}{statistics.median(side.wall):8.1f}{statistics.median(side.processor):11.1f}")
    cost = difference(plugin.processor, without.processor)
    print(f"{'the plugin costs':28}{difference(plugin.wall, without.wall):8.1f}{cost:11.1f}")
    print(f"imported for builds: {', '.join(imported) or 'nothing'}")
    return 1 if imported or cost > chosen.limit else 0


def processor_time() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def heavy_imports(project: Path) -> list[str]:
    """Return which of `HEAVY` a run imports; it also fills the bytecode caches for the runs that are timed."""
    last = pytest_in(project, "-c", PROBE).splitlines()[-1]
    return last.removeprefix("imported:").split()


def difference(one: list[float], other: list[float]) -> float:
    return statistics.median(a - b for a, b in zip(one, other, strict=True))


def pytest_in(project: Path, *arguments: str) -> str:
    """Run Python in the project; return what it printed."""
    command = [sys.executable, *arguments]
    # Where this is set, each run compiles anew what others find compiled.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise SystemExit(f"pytest failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
