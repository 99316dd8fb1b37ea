"""Many runs at random moments on one cache, some of them killed; then, whether everything is as it should be.

By hand: `python tests/e2e/soaking.py embedded --seconds 600 --processes 30`, with the test ground up.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from bases import own_base
from engines import EngineUnderTest, open_engine
from inner import Inner, Running

TESTS = """
import os
import pathlib
import pytest
from pytest_imagebuild import Image

def step(image, name):
    return image.run_commands(f": {nonce}; echo {{name}} >> /chain")

first = step(Image.from_registry("{base}"), "first")
left = step(step(first, "left"), "left-top")
right = step(step(first, "right"), "right-top")
lone = step(Image.from_registry("{base}"), "lone")

def chain():
    return pathlib.Path("/chain").read_text().split()

@pytest.mark.parametrize("number", range(3))
class TestAll:
    @pytest.mark.image(left)
    def test_left(self, number):
        assert chain() == ["first", "left", "left-top"]

    @pytest.mark.image(right)
    def test_right(self, number):
        assert chain() == ["first", "right", "right-top"]

    @pytest.mark.image(lone, isolation="test")
    def test_lone(self, number):
        assert chain() == ["lone"]
        assert not pathlib.Path("/seen").exists()
        pathlib.Path("/seen").touch()
"""
LAYERS = 7
"""The base and six steps."""

_FLAGS: tuple[tuple[str, ...], ...] = (
    (),
    (),
    ("-k", "left"),
    ("-k", "right or lone"),
    ("-n", "2"),
    ("--force-build", "-k", "left"),
    ("--force-build", "-k", "right"),
    ("--ignore-image-cache", "-k", "lone"),
)
_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_KILLED = 0.4
"""The share of the runs that is killed."""

_LONGEST = 300
"""Seconds after which a run that has not ended hangs."""


@dataclass(kw_only=True, slots=True)
class Soaked:
    """What was done, and what went wrong."""

    runs: int = 0
    green: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    prunes: int = 0
    made: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        killed = ", ".join(f"{count} {name}" for name, count in sorted(self.killed.items())) or "none"
        return (
            f"{self.runs} runs in {self.seconds:.0f} s: {self.green} ended green, killed: {killed}; "
            f"{self.prunes} prunes, {self.made} layers made, {len(self.wrong)} things wrong"
        )


@dataclass(kw_only=True, slots=True)
class _Going:
    running: Running
    begun: float
    flags: tuple[str, ...]
    end: float | None
    """When it is to be killed, None for one that is left alone."""
    told: signal.Signals | None = None


def soak(home: Path, engine: EngineUnderTest, *, seconds: float, processes: int, seed: int) -> Soaked:
    """Let up to `processes` runs go at once for so many `seconds`, then look at what there is."""
    dice, nonce, soaked = random.Random(seed), uuid.uuid4().hex, Soaked()
    with own_base(nonce, engine) as base, engine.events() as events:
        project = Inner(home, engine)
        project.write({"pytest.ini": "[pytest]\n", "test_it.py": TESTS.format(base=base.reference, nonce=nonce)})
        began = time.monotonic()
        _go(project, dice, soaked, until=began + seconds, processes=processes)
        soaked.seconds = time.monotonic() - began

        engine.sweep_replaced()
        last, again = project.run(), project.run()
        soaked.wrong += [ran.text for ran in (last, again) if "9 passed" not in ran.out]
        if "built 0" not in again.out:
            soaked.wrong.append(f"the run after the last one has built something:\n{again.text}")
        engine.sweep_replaced()
        soaked.made = len(events.made())
        soaked.wrong += _left(engine, nonce)
    return soaked


def _left(engine: EngineUnderTest, nonce: str) -> Iterator[str]:
    if (layers := engine.layers(nonce)) and len(layers) != LAYERS:
        yield f"{len(layers)} layers in place of {LAYERS}: {sorted(layers)}"
    yield from (f"left: {container}" for container in engine.containers())
    yield from (f"left: {remnant}" for remnant in engine.remains(nonce))
    yield from (f"left: {layer}" for layer in engine.thrown_away(nonce))


def _go(project: Inner, dice: random.Random, soaked: Soaked, *, until: float, processes: int) -> None:
    going: list[_Going] = []
    while going or time.monotonic() < until:
        now = time.monotonic()
        if now < until and len(going) < processes and dice.random() < 0.3:
            going.append(_begin(project, dice, now))
        if now < until and dice.random() < 0.01:
            _prune(project, soaked)
        for one in tuple(going):
            if one.end is not None and now > one.end and one.told is None and one.running.process.poll() is None:
                one.told = dice.choice(_SIGNALS)
                one.running.process.send_signal(one.told)
                soaked.killed[one.told.name] += 1
            if one.running.process.poll() is not None or now - one.begun > _LONGEST:
                going.remove(one)
                _judge(one, soaked)
        time.sleep(0.1)


def _begin(project: Inner, dice: random.Random, now: float) -> _Going:
    flags = dice.choice(_FLAGS)
    end = now + dice.uniform(0.1, 8) if dice.random() < _KILLED else None
    return _Going(running=project.begin("-p", "no:cacheprovider", *flags), begun=now, flags=flags, end=end)


def _judge(one: _Going, soaked: Soaked) -> None:
    soaked.runs += 1
    hangs = one.running.process.poll() is None
    if hangs:
        one.running.process.kill()
    ran = one.running.wait(20)
    soaked.green += ran.code == 0
    expected = {0} if one.told is None else {0, -one.told, pytest.ExitCode.INTERRUPTED}
    if hangs or ran.code not in expected or "INTERNALERROR" in ran.text:
        told = f", told {one.told.name}" if one.told is not None else ""
        soaked.wrong.append(f"pytest {' '.join(one.flags)}{told}: {'hangs' if hangs else ran.code}\n{ran.text}")


def _prune(project: Inner, soaked: Soaked) -> None:
    program = str(Path(sys.executable).with_name("imagebuild"))
    environment = {**os.environ, **project.engine.environment}
    ran = subprocess.run(
        [program, "prune"],
        cwd=project.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    soaked.prunes += 1
    if ran.returncode:
        soaked.wrong.append(f"prune: {ran.returncode}\n{ran.stdout}\n{ran.stderr}")


def main() -> int:
    """Soak one engine and print the counts."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("engine", choices=["embedded", "docker"])
    arguments.add_argument("--seconds", type=float, default=600)
    arguments.add_argument("--processes", type=int, default=30)
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    given = arguments.parse_args()
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imagebuild-soak-")))
        cache = home / "cache"
        cache.mkdir()
        engine = open_engine(given.engine, cache)
        sys.stdout.write(f"seed {given.seed}\n")
        soaked = soak(home / "work", engine, seconds=given.seconds, processes=given.processes, seed=given.seed)
        sys.stdout.write("".join(f"WRONG: {each}\n" for each in soaked.wrong))
        sys.stdout.write(f"{soaked}\n")
    return 1 if soaked.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
