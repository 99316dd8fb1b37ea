"""What a warm run does besides running tests: looking for layers, handing over the project, collecting; and its memory.

`python benchmarks/warm.py [--rounds 5] [--short] [--docker ADDRESS ...]` runs whole processes of pytest, plain on the
host and with this plugin on each engine with images that are built, and prints a table of medians. Rows of differences
are what one more takes.

    look-up of N images     from definitions to the built layers, in one process: 10 layers each, none of them shared
    project of N files      a run of one test; before each run, one of the files is changed
    collecting N tests      `--collect-only`, with markers
    peak memory             of the process that reports, after so many tests
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from unittest.mock import patch

from measuring import Contestant, Took, Trial, further, race, shown, timed
from places import ALONE, PYTEST, SHORT_ROUNDS, TESTS, Place, asked, cache_folder, call, find_places
from showing import counted, describe, judge, load, table

from pytest_imagebuild import Image
from pytest_imagebuild.dispatch.workspace import Workspace
from pytest_imagebuild.options import Options
from pytest_imagebuild.terminal import BuildDisplay

FURTHER_IMAGE = "each further image"
FURTHER_FILE = "each further file"
LAYERS = 10

MARKED = """\
from pytest_imagebuild import Image

pytestmark = pytest.mark.image(Image.from_registry("{base}"))
"""
MEMORY = """\
import resource
import sys

def pytest_unconfigure():
    sys.__stdout__.write(f"\\npeak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}\\n")
"""


def main() -> int:
    chosen = asked(__doc__, rounds=5)
    short = chosen.short
    rounds = SHORT_ROUNDS if short else chosen.rounds
    images, files, collected = (3, 50, 200) if short else (50, 2000, 10_000)
    before = load()
    with ExitStack() as stack:
        cache_dir = stack.enter_context(cache_folder())
        home = Path(stack.enter_context(TemporaryDirectory(prefix="imagebuild-warm-")))
        places = find_places(chosen.docker, cache_dir)
        work = Work(home, cache_dir, chosen.base)
        plain = Contestant(
            name="plain pytest",
            trials=[
                partial(work.project, None, 1),
                partial(work.project, None, files),
                partial(work.collect, None, collected),
            ],
        )
        contestants = [plain]
        for place in places:
            trials: list[Trial] = [partial(work.look_up, place, count) for count in (1, images)]
            trials += [partial(work.project, place, count) for count in (1, files)]
            trials += [partial(work.collect, place, collected)]
            contestants.append(Contestant(name=place.name, trials=trials))
        race(contestants, rounds)
        peaks = {place.name if place else plain.name: work.peaks(place, collected, rounds) for place in (None, *places)}
    for contestant in contestants:
        further(contestant, FURTHER_IMAGE, (looked_up(1), 1), (looked_up(images), images))
        further(contestant, FURTHER_FILE, (project_of(1), 1), (project_of(files), files))
    print(describe(*(f"{place.engine} {place.version}" for place in places)))
    print(judge(before, load()))
    print(f"medians of {shown(rounds)}, in parentheses the ratio to plain pytest, for further files the difference\n")
    rows = [looked_up(1), looked_up(images), FURTHER_IMAGE, project_of(1), project_of(files), FURTHER_FILE]
    print(table(contestants, [*rows, collecting(collected)], on_top=(FURTHER_FILE,)))
    print(f"\npeak memory after {collected:,} tests: ", end="")
    print(", ".join(f"{name} {peak / 1024:.1f} MiB ({peak / peaks[plain.name]:.2f})" for name, peak in peaks.items()))
    return 0


class Work:
    """The projects in `home`, and what is done with them; at no place, on the host alone."""

    def __init__(self, home: Path, cache_dir: Path, base: str) -> None:
        self._home = home
        self._cache_dir = cache_dir
        self._base = base
        self._turn = 0

    def look_up(self, place: Place, count: int) -> Mapping[str, Took]:
        """Look for the layers of images as a run does that has just begun. The first time builds them."""
        images = [self._image(number) for number in range(count)]
        options = Options(
            engine=place.engine,
            lockfile=self._home / "imagebuild.lock",
            cache_dir=self._cache_dir,
        )
        with ExitStack() as stack:
            stack.enter_context(patch.dict("os.environ", place.environment))
            engine = place.open(self._cache_dir)
            display = BuildDisplay(stream=sys.stderr, quiet=True, verbose=False)

            def look() -> Workspace:
                workspace = Workspace.open(engine, options, "benchmark", display)
                built = workspace.build(images, for_tests=False)
                for outcome in built.values():
                    if isinstance(outcome, Exception):
                        raise outcome
                return workspace

            took, workspace = timed(look)
            workspace.close()
        return {looked_up(count): took}

    def project(self, place: Place | None, files: int) -> Mapping[str, Took]:
        """Run one test of a project of so many files, one of which has changed."""
        folder = self._folder(f"files-{files}", place, 1)
        if not (folder / "modules").exists():
            (folder / "modules").mkdir()
            for number in range(files):
                (folder / "modules" / f"module_{number}.py").write_text(f"VALUE = {number}\n" * 40)
        self._turn += 1
        (folder / "modules" / "module_0.py").write_text(f"VALUE = {self._turn}\n")
        return {project_of(files): timed(self._run(place, folder))[0]}

    def collect(self, place: Place | None, count: int) -> Mapping[str, Took]:
        """Collect so many tests."""
        folder = self._folder("collecting", place, count)
        return {collecting(count): timed(self._run(place, folder, "--collect-only"))[0]}

    def peaks(self, place: Place | None, count: int, rounds: int) -> float:
        """Return how much memory the process of pytest had at most that ran so many tests, in KiB."""
        folder = self._folder("memory", place, count)
        (folder / "conftest.py").write_text(MEMORY)
        printed = [self._run(place, folder)() for _ in range(rounds)]
        return median(int(each.rpartition("peak ")[2]) for each in printed)

    def _image(self, number: int) -> Image:
        image = Image.from_registry(self._base)
        for layer in range(LAYERS - 1):
            image = image.env({"LAYER": f"{number}-{layer}"})
        return image

    def _folder(self, name: str, place: Place | None, count: int) -> Path:
        """Return a project with a file of tests."""
        folder = self._home / f"{name}-{place.name if place else 'host'}"
        if not folder.exists():
            folder.mkdir()
            marked = MARKED.format(base=self._base) if place else "pytestmark = pytest.mark.image(None)\n"
            (folder / "test_it.py").write_text(TESTS.format(marked=marked, count=count))
            (folder / "pytest.ini").write_text("[pytest]\nmarkers = image\n")
        return folder

    def _run(self, place: Place | None, folder: Path, *flags: str) -> Callable[[], str]:
        ours = {} if place is None else place.variables(self._cache_dir)
        loaded = () if place is None else ("-p", "imagebuild")
        return lambda: call([sys.executable, *PYTEST, *loaded, *flags], folder, {**ALONE, **ours})


def looked_up(count: int) -> str:
    return f"look-up of {counted(count, 'image')}"


def project_of(count: int) -> str:
    return f"project of {counted(count, 'file')}"


def collecting(count: int) -> str:
    return f"collecting {counted(count, 'test')}"


if __name__ == "__main__":
    sys.exit(main())
