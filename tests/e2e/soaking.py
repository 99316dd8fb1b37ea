"""Many runs at once on one cache folder, killed at random moments; then everything must be as if none had been.

`python tests/e2e/soaking.py --engine embedded` takes ten minutes, with the test ground up. What is wrong is printed
with the seed that draws the same runs again.
"""

from __future__ import annotations

import argparse
import contextlib
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
from engines import EngineUnderTest, open_engine
from pruning import MINE

__all__ = ["Counts", "Soak"]

PATIENCE = 600
"""Seconds that runs may take to end when no more are begun."""
KILLED = 0.35
"""The share of runs that are killed."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
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
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(self.runs.items()))
        killed = ", ".join(f"{number} by {name}" for name, number in sorted(self.killed.items()))
        forced = f"{self.replaced} of them by force in the place of another"
        return "\n".join(
            [
                f"seed {self.seed}: {self.seconds:.0f} s, {self.runs.total()} runs, {self.most_at_once} at once",
                f"runs: {kinds}",
                f"killed {self.killed.total()}: {killed or 'none'}; {self.green} green",
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
    end: tuple[float, signal.Signals] | None
    killed: bool = False

    @property
    def output(self) -> str:
        return self.log.read_text("utf-8", errors="replace")


class Soak:
    """Runs in `folder` on an engine whose cache folder nobody else uses. `base` is a base image of its own.

    `nonce` is in the name of every step.
    """

    def __init__(self, engine: EngineUnderTest, folder: Path, *, base: str, nonce: str, seed: int) -> None:
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
        definitions = DEFINITIONS.format(base=base, chains=CHAINS, nonce=nonce)
        (self._project / "pytest.ini").write_text("[pytest]\n")
        (self._project / "definitions.py").write_text(definitions)
        for name in CHAINS:
            (self._project / f"test_{name}.py").write_text(TESTS.format(name=name))

    def run(self, seconds: float, processes: int) -> Counts:
        """Begin runs for so long, so many at once; then look at what is there. Nothing of it runs when it returns."""
        # The base image, so that not all wait for it.
        self._alone("the first run", "test_stem.py", "--image-build-only")
        begun = time.monotonic()
        try:
            with self._engine.ledger(self._nonce) as ledger:
                self._go_on(begun + seconds, processes)
                said = self._alone("the last run")
                if f"{5 * len(CHAINS)} passed" not in said:
                    self._counts.wrong.append(f"the last run did not pass every test:\n{said}")
        finally:
            for run in self._running:
                run.process.kill()
                run.process.wait(20)
        self._counts.seconds = time.monotonic() - begun
        self._counts.built, self._counts.replaced, self._counts.removed = ledger.built, ledger.replaced, ledger.removed
        self._counts.wrong += ledger.wrong
        self._engine.sweep_settled(self._nonce)
        self._counts.wrong += self._left_over()
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
        command = self._prune(*flags) if kind in PRUNES else self._pytest(*flags, *files)
        run = self._start(kind, command)
        if killing:
            run.end = run.since + after * self._usual, number
        self._running.append(run)
        self._counts.runs[kind] += 1

    def _alone(self, kind: str, *arguments: str) -> str:
        run = self._start(kind, self._pytest(*arguments))
        self._running.append(run)
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.process.wait(PATIENCE)
        said = run.output
        self._look()
        return said

    def _pytest(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *arguments]

    def _prune(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", MINE, self._nonce, "", "prune", *arguments]

    def _start(self, kind: str, command: list[str]) -> _Begun:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "MODAL_"))}
        log = self._logs / f"{self._counts.runs.total()}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                # What a shell starts in the background is deaf to Ctrl-C, and that is inherited.
                ["env", "--default-signal=INT,TERM,HUP", *command],
                cwd=self._project,
                env={
                    **inherited,
                    **self._engine.environment,
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "TMPDIR": str(self._temporary),
                },
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        return _Begun(kind, command, process, log, time.monotonic(), None)

    def _look(self) -> None:
        """Kill what is to be killed now, and take in what has ended."""
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

    def _left_over(self) -> Iterator[str]:
        for what in self._engine.remains(self._nonce):
            yield f"left over: {what}"
        for path in self._temporary.iterdir():
            if not path.name.startswith("pytest-of-"):
                yield f"left over: {path}"
        for path in self._project.iterdir():
            if path.suffix not in (".py", ".ini", ".lock"):
                yield f"left over: {path}"
        for path in sorted(self._engine.cache_dir.rglob("*")):
            if path.is_file() and _passing(path.relative_to(self._engine.cache_dir)):
                yield f"left over: {path}"
        for pid, command in _processes(self._engine.environment):
            yield f"left over: the process {pid}, {command}"


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
            soak = Soak(engine, folder / "soak", base=base.reference, nonce=nonce, seed=seed)
            counts = soak.run(given.seconds, given.processes)
    print(counts)
    return 1 if counts.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
