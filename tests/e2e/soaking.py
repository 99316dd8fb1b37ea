"""Many runs at once on one cache folder, killed at random moments; then everything must be as if none had been.

Some are of projects that are large enough to be kept in the engine, and change between and during runs.

`python tests/e2e/soaking.py --engine embedded` takes ten minutes, with the test ground up. What is wrong is printed
with the seed that draws the same runs again.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bases import own_base
from changing import EXPECTED, TREE, ChangingProject
from engines import PROJECT, EngineUnderTest, open_engine
from observing import keepers
from pruning import MINE

__all__ = ["Counts", "Soak"]

PATIENCE = 600
"""Seconds that runs may take to end when no more are begun."""
KILLED = 0.35
"""The share of runs that are killed."""
ON_CHANGING = 0.4
"""The share of runs that are on a changing project."""
CHANGED = 0.4
"""How often a run is followed by a change of its project, and begun beside one of a restless project."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SOON = 20.0
"""Seconds in which a process ends that keeps containers, once none waits any more."""
FIRST_GUESS = 8.0
"""Seconds that a run takes, before it is known."""

CHAINS = {
    "stem": ("run a",),
    "left": ("run a", "run b", "env c"),
    "leaf": ("run a", "run b", "env c", "run d"),
    "twig": ("run a", "run b", "run e", "run f"),
    "right": ("run a", "env g", "run h"),
    "crown": ("run a", "env g", "run h", "run i", "run j"),
    "alone": ("env k", "run a"),
    "twice": ("run l", "run l", "run a"),
}
"""The images, by their steps from the bottom up."""
LAST = ("leaf", "twice")
"""The images of the last run on each changing project."""

DEFINITIONS = """\
import os
from pathlib import Path

from pytest_imagebuild import Image

BASE = Image.from_registry("{base}")
CHAINS = {chains!r}


def image(name):
    found = BASE
    for step in CHAINS[name]:
        kind, letter = step.split()
        if kind == "env":
            found = found.env({{"STEP_" + letter: "{nonce} " + letter}})
        else:
            found = found.run_commands(f"echo {nonce} {{letter}} >> /trail; sleep 0.3; cp /trail /at-{{letter}}")
    return found


def check(name):
    steps = [step.split() for step in CHAINS[name]]
    trail = [f"{nonce} {{letter}}" for kind, letter in steps if kind == "run"]
    assert Path("/trail").read_text().splitlines() == trail
    for number, line in enumerate(trail):
        if line not in trail[number + 1 :]:
            assert Path("/at-" + line[-1]).read_text().splitlines() == trail[: number + 1]
    assert {{path.name for path in Path("/").glob("at-*")}} == {{"at-" + line[-1] for line in trail}}
    told = {{name: value for name, value in os.environ.items() if name.startswith("STEP_")}}
    assert told == {{"STEP_" + letter: f"{nonce} {{letter}}" for kind, letter in steps if kind == "env"}}
"""

TESTS = """\
import time
from pathlib import Path

import pytest
from definitions import check, image


@pytest.mark.image(image("{name}"))
@pytest.mark.parametrize("number", range(3))
def test_shared(number):
    check("{name}")
    time.sleep(number / 10)


@pytest.mark.image(image("{name}"), isolation="test")
@pytest.mark.parametrize("number", range(2))
def test_isolated(number):
    assert not Path("/mine").exists()
    Path("/mine").touch()
    check("{name}")
"""

RUNS = {
    "plain": (5, ()),
    "xdist": (3, ("-n", "2")),
    "isolated": (2, ("-k", "isolated")),
    "kept": (2, ("--image-keep",)),
    "kept, xdist": (1, ("--image-keep", "-n", "2")),
    "forced": (2, ("--force-build",)),
    "cache ignored": (2, ("--ignore-image-cache",)),
    "forced, xdist": (1, ("--force-build", "-n", "2")),
    "cache ignored, xdist": (1, ("--ignore-image-cache", "-n", "2")),
}
"""Kinds of runs: how often each is drawn, and its flags."""
PRUNES = {
    "prune": (1, ()),
    "prune all": (2, ("--older-than", "0h")),
    "prune by size": (1, ("--keep-size", "1MB")),
}


@dataclass(slots=True)
class Counts:
    """What happened, and what should not have."""

    seed: int
    seconds: float = 0.0
    runs: Counter[str] = field(default_factory=Counter)
    killed: Counter[str] = field(default_factory=Counter)
    green: int = 0
    most_at_once: int = 0
    built: int = 0
    replaced: int = 0
    removed: int = 0
    projects: int = 0
    on_changing: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(self.runs.items()))
        killed = ", ".join(f"{number} by {name}" for name, number in sorted(self.killed.items()))
        forced = f"{self.replaced} of them by force in the place of another, {self.projects} of projects"
        changes = ", ".join(f"{number} {kind}" for kind, number in sorted(self.changes.items()))
        return "\n".join(
            [
                f"seed {self.seed}: {self.seconds:.0f} s, {self.runs.total()} runs, {self.most_at_once} at once",
                f"runs: {kinds}",
                f"killed {self.killed.total()}: {killed or 'none'}; {self.green} green",
                f"projects: {self.on_changing} runs on changing ones, which were changed: {changes or 'never'}",
                f"layers: {self.built} built, {forced}; {self.removed} removed by prune",
                *(f"WRONG: {sentence}" for sentence in self.wrong),
            ]
        )


@dataclass(slots=True)
class _Begun:
    kind: str
    command: list[str]
    process: subprocess.Popen[bytes]
    log: Path
    since: float
    end: tuple[float, signal.Signals] | None = None
    killed: bool = False
    on: ChangingProject | None = None

    @property
    def output(self) -> str:
        return self.log.read_text("utf-8", errors="replace")


class Soak:
    """Runs in `folder` on an engine whose cache folder nobody else uses. `base` is a base image of its own.

    `nonce` is in the name of every step. `changing` projects change between their runs, and as many while they run.
    """

    def __init__(
        self, engine: EngineUnderTest, folder: Path, *, base: str, nonce: str, seed: int, changing: int
    ) -> None:
        self._engine = engine
        self._folder = folder
        self._nonce = nonce
        self._chance = random.Random(seed)
        self._temporary = folder / "temporary"
        self._logs = folder / "logs"
        self._project = folder / "project"
        self._counts = Counts(seed)
        self._running: list[_Begun] = []
        self._usual = FIRST_GUESS
        for path in (self._temporary, self._logs, self._project):
            path.mkdir(parents=True)
        self._changing = [
            ChangingProject(folder / f"{kind}-{number}", self._chance, restless=kind == "restless")
            for kind in ("changing", "restless")
            for number in range(changing)
        ]
        definitions = DEFINITIONS.format(base=base, chains=CHAINS, nonce=nonce)
        for project in self._projects():
            (project / "pytest.ini").write_text("[pytest]\n")
            (project / "definitions.py").write_text(definitions)
            for name in CHAINS:
                (project / f"test_{name}.py").write_text(TESTS.format(name=name))

    def run(self, seconds: float, processes: int) -> Counts:
        """Begin runs for so long, so many at once; then look at what is there. Nothing of it runs when it returns."""
        # The base image, so that not all wait for it.
        self._alone("the first run", None, "test_stem.py", "--image-build-only")
        begun = time.monotonic()
        try:
            with self._engine.ledger(self._nonce) as ledger:
                self._go_on(begun + seconds, processes)
                self._last_run(None, *CHAINS)
                for project in self._changing:
                    self._last_run(project, *LAST)
        finally:
            for run in self._running:
                run.process.kill()
                run.process.wait(20)
        self._counts.seconds = time.monotonic() - begun
        self._counts.built, self._counts.replaced, self._counts.removed = ledger.built, ledger.replaced, ledger.removed
        self._counts.projects = ledger.projects
        self._counts.wrong += ledger.wrong if ledger.built else ["nobody saw a layer being built"]
        # It ends the containers that wait for a run.
        self._ended(self._start("the first of the last prunes", self._prune()))
        self._wait_for_keepers()
        self._engine.sweep_settled(self._nonce)
        self._ended(self._start("the last prune", self._prune()))
        self._counts.wrong += itertools.chain(self._left_over(), self._lost_notes())
        self._counts.wrong += self._engine.unsound(self._nonce)
        return self._counts

    def _go_on(self, end: float, processes: int) -> None:
        next_one = 0.0
        while (now := time.monotonic()) < end:
            self._look()
            if len(self._running) < processes and now >= next_one:
                self._begin()
                next_one = now + self._chance.uniform(0, 2 * self._usual / processes)
            self._counts.most_at_once = max(self._counts.most_at_once, len(self._running))
            time.sleep(0.02)
        while self._running and time.monotonic() < end + PATIENCE:
            self._look()
            time.sleep(0.02)
        self._counts.wrong += [f"{run.kind} never ended:\n{run.output}" for run in self._running]

    def _begin(self) -> None:
        drawn = {**RUNS, **PRUNES}
        (kind,) = self._chance.choices(list(drawn), [weight for weight, _ in drawn.values()])
        _, flags = drawn[kind]
        killing = self._chance.random() < KILLED
        after = self._chance.uniform(0, 1.1)
        number = self._chance.choice(SIGNALS)
        of = self._chance.sample(sorted(CHAINS), self._chance.randint(1, 4))
        files = [f"test_{name}.py" for name in sorted(of)]
        on = self._draw_project()
        if kind in PRUNES:
            run = self._start(kind, self._prune(*flags))
        else:
            run = self._start(kind, self._pytest(on, *flags, *files), on)
            self._counts.on_changing += on is not None
        if killing:
            run.end = run.since + after * self._usual, number
        self._running.append(run)
        self._counts.runs[kind] += 1
        for project in self._changing:
            if project.restless and self._chance.random() < CHANGED:
                self._change(project)
            elif project is on and self._chance.random() < CHANGED:
                project.due = True

    def _draw_project(self) -> ChangingProject | None:
        """Draw a project that may be used now; None is the one that never changes."""
        drawn = self._chance.random() < ON_CHANGING
        free = [project for project in self._changing if not project.due]
        return self._chance.choice(free) if drawn and free else None

    def _change(self, project: ChangingProject) -> None:
        self._counts.changes["much" if project.change() else "little"] += 1

    def _last_run(self, on: ChangingProject | None, *names: str) -> None:
        said = self._alone("the last run", on, *(f"test_{name}.py" for name in names))
        if f"{5 * len(names)} passed" not in said:
            self._counts.wrong.append(f"the last run did not pass every test:\n{said}")

    def _alone(self, kind: str, on: ChangingProject | None, *arguments: str) -> str:
        return self._ended(self._start(kind, self._pytest(on, *arguments), on))

    def _ended(self, run: _Begun) -> str:
        """Wait for a run, and return what it has said."""
        self._running.append(run)
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.process.wait(PATIENCE)
        said = run.output
        self._look()
        return said

    def _pytest(self, on: ChangingProject | None, *arguments: str) -> list[str]:
        # By pytest's cache, the sessions of the run before begin early.
        cache = ["-p", "no:cacheprovider"] if on is None else ["-o", f"cache_dir={self._folder}/{on.folder.name}-cache"]
        return [sys.executable, "-m", "pytest", *cache, "-p", "no:hypothesispytest", *arguments]

    def _prune(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", MINE, self._nonce, "", "prune", *arguments]

    def _start(self, kind: str, command: list[str], on: ChangingProject | None = None) -> _Begun:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "MODAL_"))}
        log = self._logs / f"{self._counts.runs.total()}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                # What a shell starts in the background is deaf to Ctrl-C, and that is inherited.
                ["env", "--default-signal=INT,TERM,HUP", *command],
                cwd=on.folder if on else self._project,
                env={
                    **inherited,
                    **self._engine.environment,
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "TMPDIR": str(self._temporary),
                    **({EXPECTED: on.expected()} if on else {}),
                },
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        return _Begun(kind, command, process, log, time.monotonic(), on=on)

    def _look(self) -> None:
        """Kill what is to be killed now, take in what has ended, and change what nobody uses."""
        now = time.monotonic()
        for run in tuple(self._running):
            code = run.process.poll()
            if code is None:
                if run.end is not None and not run.killed and now >= run.end[0]:
                    run.process.send_signal(run.end[1])
                    run.killed = True
                    self._counts.killed[run.end[1].name] += 1
                continue
            self._running.remove(run)
            if run.killed:
                continue
            self._usual += 0.2 * (now - run.since - self._usual)
            if code == 0:
                self._counts.green += 1
                run.log.unlink()
            else:
                self._counts.wrong.append(f"{run.kind} ended with {code}: {' '.join(run.command[-6:])}\n{run.output}")

        for project in self._changing:
            if project.due and all(run.on is not project for run in self._running):
                self._change(project)

    def _projects(self) -> list[Path]:
        return [self._project, *(project.folder for project in self._changing)]

    def _wait_for_keepers(self) -> None:
        end = time.monotonic() + SOON
        while time.monotonic() < end and keepers(self._engine.cache_dir):
            time.sleep(0.1)

    def _left_over(self) -> Iterator[str]:
        for what in self._engine.remains(self._nonce):
            yield f"left over: {what}"
        for path in self._temporary.iterdir():
            if not path.name.startswith("pytest-of-"):
                yield f"left over: {path}"
        for path in itertools.chain.from_iterable(project.iterdir() for project in self._projects()):
            if path.suffix not in (".py", ".ini", ".lock") and path.name != TREE:
                yield f"left over: {path}"
        for path in sorted(self._engine.cache_dir.rglob("*")):
            if path.is_file() and _passing(path.relative_to(self._engine.cache_dir)):
                yield f"left over: {path}"
        for pid, command in _processes(self._engine.environment):
            yield f"left over: the process {pid}, {command}"

    def _lost_notes(self) -> Iterator[str]:
        layers = self._engine.layers(PROJECT).values()
        for path in self._engine.cache_dir.glob("projects/*/*.json"):
            if json.loads(path.read_bytes())["reference"] not in layers:
                yield f"left over: {path}, the note of a layer that is gone"


def _passing(path: Path) -> bool:
    """Say whether a file of the cache folder is one that only a living process has."""
    if path.parts[0] == "runs" or "claims" in path.parts[:-1]:
        return True
    # Below a tree are files of an image.
    own = path.parts[: 4 if "keys" in path.parts else 3]
    return path.suffix == ".partial" or any(part.startswith(".") for part in own)


def _processes(environment: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    wanted = f"IMAGEBUILD_CACHE_DIR={environment['IMAGEBUILD_CACHE_DIR']}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=["embedded", "docker"], required=True)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--processes", type=int, default=30, help="how many run at once")
    parser.add_argument("--seed", type=int, help="draws the same runs again")
    given = parser.parse_args(None if arguments is None else list(arguments))
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    nonce = secrets.token_hex(8)
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        engine = open_engine(given.engine, folder / "cache")
        print(f"seed {seed}, on {given.engine}, in {folder}", flush=True)
        with own_base(nonce, engine) as base:
            soak = Soak(engine, folder / "soak", base=base.reference, nonce=nonce, seed=seed, changing=2)
            counts = soak.run(given.seconds, given.processes)
    print(counts)
    return 1 if counts.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
