"""What a warm run of pytest costs: trivial tests in containers, beside plain pytest on the host and `docker run`.

`python benchmarks/sessions.py [--rounds 7] [--short] [--docker ADDRESS ...]` times whole processes: plain pytest on
the host, this plugin on each engine with an image that is built, and `docker run` of an image that has pytest, with the
project mounted. All of them use one version of pytest and load no other plugin. It prints a table of medians, with
ratios to plain pytest.

    N tests             one file of N trivial tests
    each further test   the difference of most and fewest tests, shared out: what a test costs once a run has begun
    isolation="test"    the same, each test with a pristine file system; beside plain pytest, which has none

Processor time is that of the processes that were started here, as far as they ended by themselves: Docker's daemon and
its containers are not in it, nor what was killed with a container.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from aims import figures
from measuring import Contestant, Trial, further, one_row
from places import ALONE, PYTEST, TESTS, Place, call, pytest_program
from running import Outcome, Setting, main
from showing import counted

COUNTS = (1, 200, 2000)
ISOLATED = (1, 200)
SHORT_COUNTS = (1, 20)
SHORT_ISOLATED = (1, 3)
FURTHER = "each further test"
FURTHER_ISOLATED = 'each further test, isolation="test"'

MARKED = """\
from pytest_imagebuild import Image

image = Image.from_registry("{base}")
with_pytest = image.pip_install("pytest=={pytest}")
pytestmark = pytest.mark.image(image{isolation})
"""
PYTHON = """\
import platform, pytest
from pytest_imagebuild import Image

@pytest.mark.image(Image.from_registry("{base}"))
def test_python():
    print("inside", platform.python_version(), "inside")
"""

Run = Callable[[str], object]
"""Runs the tests of a file."""


def sessions(setting: Setting) -> Outcome:
    counts, isolated = (SHORT_COUNTS, SHORT_ISOLATED) if setting.short else (COUNTS, ISOLATED)
    project = Project(setting.folder, setting.cache_dir, setting.base, counts, isolated)
    python = project.python_inside(setting.places[0])
    contestants = project.contestants(setting.places)
    setting.race(contestants)
    for contestant in contestants:
        further(contestant, FURTHER, (tests(counts[0]), counts[0]), (tests(counts[-1]), counts[-1]))
        few, many = isolated
        further(contestant, FURTHER_ISOLATED, (each_alone(few), few), (each_alone(many), many))
    plain = contestants[0]
    found = []
    for row in (*map(tests, counts), *map(each_alone, isolated)):
        found += figures(row, contestants, row, kind="ratio", beside=plain)
    for row in (FURTHER, FURTHER_ISOLATED):
        found += figures(row, contestants, row, kind="more", beside=plain)
    return Outcome(
        title="Warm runs",
        contestants=contestants,
        rows=[*map(tests, counts), FURTHER, *map(each_alone, isolated), FURTHER_ISOLATED],
        on_top=(FURTHER, FURTHER_ISOLATED),
        versions=[f"Python {python} in the image"],
        figures=found,
    )


class Project:
    """A folder with tests, and the ways to run them."""

    def __init__(
        self, folder: Path, cache_dir: Path, base: str, counts: Sequence[int], isolated: Sequence[int]
    ) -> None:
        self._folder = folder
        self._cache_dir = cache_dir
        self._counts = counts
        self._isolated = isolated
        marked = partial(MARKED.format, base=base, pytest=pytest.__version__)
        markers = {"host": "", "image": marked(isolation=""), "isolated": marked(isolation=', isolation="test"')}
        for count in {*counts, *isolated}:
            for name, text in markers.items():
                (folder / f"test_{name}_{count}.py").write_text(TESTS.format(marked=text, count=count))
        (folder / "test_python.py").write_text(PYTHON.format(base=base))
        (folder / "pytest.ini").write_text("[pytest]\nmarkers = image\n")

    def contestants(self, places: Sequence[Place]) -> list[Contestant]:
        """Return plain pytest, and what runs the tests at each place."""
        plain = Contestant(name="plain pytest", trials=self._trials(self._on_host, "host", "host"))
        ours = [
            Contestant(
                name=place.name, engine=place.engine, trials=self._trials(self._inside(place), "image", "isolated")
            )
            for place in places
        ]
        peers = [
            Contestant(name=place.docker_run, trials=self._trials(self._docker_run(place), "host"))
            for place in places
            if place.runs_docker
        ]
        return [plain, *ours, *peers]

    def python_inside(self, place: Place) -> str:
        """Return the version of Python in the image, which is built by this."""
        command = pytest_program("-s", "test_python.py")
        printed = call(command, self._folder, place.variables(self._cache_dir))
        return printed.split("inside")[1].strip()

    def _trials(self, run: Run, shared: str, isolated: str = "") -> list[Trial]:
        files = {tests(count): f"test_{shared}_{count}.py" for count in self._counts}
        if isolated:
            files.update({each_alone(count): f"test_{isolated}_{count}.py" for count in self._isolated})
        return [partial(one_row, row, partial(run, file)) for row, file in files.items()]

    def _on_host(self, file: str) -> object:
        return call(pytest_program(file), self._folder, ALONE)

    def _inside(self, place: Place) -> Run:
        environment = {**ALONE, **place.variables(self._cache_dir)}
        return lambda file: call(pytest_program("-p", "imagebuild", file), self._folder, environment)

    def _docker_run(self, place: Place) -> Run:
        environment = place.variables(self._cache_dir)
        imagebuild = str(Path(sys.executable).with_name("imagebuild"))
        command = [imagebuild, "build", f"test_image_{self._counts[0]}.py:with_pytest"]
        reference = call(command, self._folder, environment).splitlines()[-2].split()[-1]
        mounted = ["-v", f"{self._folder}:{self._folder}", "-w", str(self._folder)]
        docker = ["docker", "run", "--rm", *mounted, reference, "python3", *PYTEST]
        return lambda file: call([*docker, file], self._folder, environment)


def tests(count: int) -> str:
    return counted(count, "test")


def each_alone(count: int) -> str:
    return f'{tests(count)}, isolation="test"'


if __name__ == "__main__":
    sys.exit(main(__doc__, 7, sessions))
