"""What a warm run costs: trivial tests in a container, beside the same tests on the host and in `docker run`.

`python benchmarks/warm.py [--rounds 5] [--counts 1,200,2000]`: in each round every number of tests is run by plain
pytest on the host, by this plugin in a container of an image that is built, and by `docker run` of an image that has
pytest. Prints medians in seconds, with the ratio to the host. Needs an engine (DOCKER_HOST, or Docker's usual socket)
and, for the third column, the `docker` command.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

BASE = "python:3.13-slim-trixie"
TESTS = """\
import pytest

@pytest.mark.parametrize("number", range({count}))
def test_trivial(number):
    assert number >= 0
"""
MARKED = """\
from pytest_imagebuild import Image

image = Image.from_registry("{base}")
with_pytest = image.pip_install("pytest")
pytestmark = pytest.mark.image(image)
"""
TIMEOUT = 600


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each run is timed (default: 5)")
    parser.add_argument("--counts", default="1,200,2000", help="numbers of tests (default: 1,200,2000)")
    chosen = parser.parse_args()
    counts = [int(count) for count in chosen.counts.split(",")]
    with tempfile.TemporaryDirectory(prefix="imagebuild-warm-") as folder:
        project = Path(folder)
        runs = prepare(project, counts)
        times: dict[tuple[str, int], list[float]] = {(name, count): [] for name in runs for count in counts}
        for _ in range(chosen.rounds):
            for count in counts:
                for name, run in runs.items():
                    times[name, count].append(timed(run, count))
    show(list(runs), counts, {key: statistics.median(found) for key, found in times.items()})
    return 0


def prepare(project: Path, counts: list[int]) -> dict[str, Callable[[int], object]]:
    """Write the tests, build the images, and return what is timed, by name."""
    (project / "pytest.ini").write_text("[pytest]\nmarkers = image\n")
    for count in counts:
        tests = TESTS.format(count=count)
        (project / f"test_host_{count}.py").write_text(tests)
        head, _, rest = tests.partition("\n")
        (project / f"test_image_{count}.py").write_text(f"{head}\n{MARKED.format(base=BASE)}{rest}")
    plain = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    runs: dict[str, Callable[[int], object]] = {
        "host": lambda count: call(project, [*plain, "-p", "no:imagebuild", f"test_host_{count}.py"]),
        "container": lambda count: call(project, [*plain, f"test_image_{count}.py"]),
    }
    runs["container"](counts[0])
    if shutil.which("docker"):
        command = str(Path(sys.executable).with_name("imagebuild"))
        built = call(project, [command, "build", f"test_image_{counts[0]}.py:with_pytest"])
        reference = built.splitlines()[-2].split()[-1]
        mounted = ["-v", f"{project}:{project}", "-w", str(project)]
        docker = ["docker", "run", "--rm", *mounted, reference, "python3", *plain[1:]]
        runs["docker run"] = lambda count: call(project, [*docker, f"test_host_{count}.py"])
        runs["docker run"](counts[0])
    return runs


def timed(run: Callable[[int], object], count: int) -> float:
    begun = time.perf_counter()
    run(count)
    return time.perf_counter() - begun


def call(project: Path, command: list[str]) -> str:
    # Where one of these is set, each run compiles anew what others find compiled, or is another run than is meant.
    unset = ("PYTHONDONTWRITEBYTECODE", "PYTEST_ADDOPTS")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    return done.stdout


def show(names: list[str], counts: list[int], medians: dict[tuple[str, int], float]) -> None:
    print(f"{'tests':>6}" + "".join(f"{name:>20}" for name in names))
    for count in counts:
        cells = (
            f"{medians[name, count]:.2f} s ({medians[name, count] / medians['host', count]:.2f})" for name in names
        )
        print(f"{count:>6}" + "".join(f"{cell:>20}" for cell in cells))


if __name__ == "__main__":
    sys.exit(main())
