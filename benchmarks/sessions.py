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
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest
from aims import figures
from measuring import Contestant, Took, Trial, further, one_row
from places import ALONE, PYTEST, TESTS, Place, call, pytest_program
from running import Outcome, Setting, main
from showing import counted

from pytest_imagebuild.keeping.kept import let_go

COUNTS = (1, 200, 2000)
ISOLATED = (1, 200)
SHORT_COUNTS = (1, 20)
SHORT_ISOLATED = (1, 3)
KEPT = ", kept"
READY_SECONDS = 1.0
"""What a container that is to wait may take to start: who edits between two runs does not see it."""
FURTHER = "each further test"
FURTHER_ISOLATED = 'each further test, isolation="test"'

MANY_AIMS = {"embedded": 1.1, f"embedded{KEPT}": 1.1, "docker": 1.25, f"docker{KEPT}": 1.15}
"""Ratios to plain pytest."""
ONE_AIMS = {"embedded": 0.10, f"embedded{KEPT}": 0.10, "docker": 0.35, f"docker{KEPT}": 0.10}
FURTHER_AIMS = {"embedded": 0.15e-3, f"embedded{KEPT}": 0.15e-3, "docker": 0.2e-3, f"docker{KEPT}": 0.2e-3}
ALONE_AIMS = {"embedded": 15e-3}
"""Seconds above plain pytest."""

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
    try:
        setting.race(contestants)
    finally:
        _end_kept(setting.places, setting.cache_dir)
    for contestant in contestants:
        further(contestant, FURTHER, (tests(counts[0]), counts[0]), (tests(counts[-1]), counts[-1]))
        few, many = isolated
        further(contestant, FURTHER_ISOLATED, (each_alone(few), few), (each_alone(many), many))
    plain = contestants[0]
    fewest, most = tests(counts[0]), tests(counts[-1])
    found = [
        *figures(most, contestants, most, kind="ratio", aims=MANY_AIMS, beside=plain),
        *figures(fewest, contestants, fewest, kind="more", aims=ONE_AIMS, beside=plain),
        *figures(FURTHER, contestants, FURTHER, kind="more", aims=FURTHER_AIMS, beside=plain),
        *figures(FURTHER_ISOLATED, contestants, FURTHER_ISOLATED, kind="more", aims=ALONE_AIMS, beside=plain),
    ]
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
        kept = [
            Contestant(
                name=f"{place.name}{KEPT}",
                engine=f"{place.engine}{KEPT}",
                trials=self._trials(self._inside(place, "--image-keep"), "image", settling=READY_SECONDS),
            )
            for place in places
        ]
        peers = [
            Contestant(name=place.docker_run, trials=self._trials(self._docker_run(place), "host"))
            for place in places
            if place.runs_docker
        ]
        return [plain, *ours, *kept, *peers]

    def python_inside(self, place: Place) -> str:
        """Return the version of Python in the image, which is built by this."""
        command = pytest_program("-s", "test_python.py")
        printed = call(command, self._folder, place.variables(self._cache_dir))
        return printed.split("inside")[1].strip()

    def _trials(self, run: Run, shared: str, isolated: str = "", *, settling: float = 0.0) -> list[Trial]:
        files = {tests(count): f"test_{shared}_{count}.py" for count in self._counts}
        if isolated:
            files.update({each_alone(count): f"test_{isolated}_{count}.py" for count in self._isolated})
        return [partial(_settled, row, partial(run, file), settling) for row, file in files.items()]

    def _on_host(self, file: str) -> object:
        return call(pytest_program(file), self._folder, ALONE)

    def _inside(self, place: Place, *flags: str) -> Run:
        environment = {**ALONE, **place.variables(self._cache_dir)}
        return lambda file: call(pytest_program("-p", "imagebuild", *flags, file), self._folder, environment)

    def _docker_run(self, place: Place) -> Run:
        environment = place.variables(self._cache_dir)
        imagebuild = str(Path(sys.executable).with_name("imagebuild"))
        command = [imagebuild, "build", f"test_image_{self._counts[0]}.py:with_pytest"]
        reference = call(command, self._folder, environment).splitlines()[-2].split()[-1]
        mounted = ["-v", f"{self._folder}:{self._folder}", "-w", str(self._folder)]
        docker = ["docker", "run", "--rm", *mounted, reference, "python3", *PYTEST]
        return lambda file: call([*docker, file], self._folder, environment)


def _settled(row: str, run: Callable[[], object], settling: float) -> Mapping[str, Took]:
    """Time a run, and wait until what it has begun for the next one is through."""
    took = one_row(row, run)
    time.sleep(settling)
    return took


def _end_kept(places: Sequence[Place], cache_dir: Path) -> None:
    for place in places:
        engine = place.open(cache_dir)
        let_go(cache_dir, engine)
        engine.close()


def tests(count: int) -> str:
    return counted(count, "test")


def each_alone(count: int) -> str:
    return f'{tests(count)}, isolation="test"'


if __name__ == "__main__":
    sys.exit(main(__doc__, 7, sessions))
