"""A pytest that is killed: nothing of it stays, and the next run is green."""

from __future__ import annotations

import signal
import time

import pytest
from bases import OwnBase
from engines import EngineUnderTest, Events
from gate import Gate
from observing import wait_until
from running import Running

TIMEOUT = 120
PATIENCE = 300
"""Seconds that a busy machine may take to bring a run to the place where it is killed."""
SOON = 60
"""Within so many seconds a container ends after its pytest was killed; by itself, it would not end before ten times."""

BUILD = '''
import pytest
from pytest_imagebuild import Image

image = Image.from_registry("{base}").run_commands(""": SLOW {nonce}; python3 -c "{wait}" """)

@pytest.mark.image(image)
def test_inside():
    pass
'''

TEST = """
import pathlib
import time
import pytest
from pytest_imagebuild import Image

image = Image.from_registry("{base}").env({{"NONCE": "{nonce}"}})

@pytest.mark.parametrize("number", range(2))
@pytest.mark.image(image)
def test_inside(number):
    pathlib.Path("/begun").touch()
    if pathlib.Path(__file__).with_name("slow").exists():
        time.sleep(600)
"""


def test_killed_in_the_middle_of_a_build(
    project: pytest.Pytester, engine: EngineUnderTest, base: OwnBase, nonce: str
) -> None:
    with engine.events() as events, Gate(engine.host_address) as gate:
        project.makepyfile(BUILD.format(base=base.reference, nonce=nonce, wait=gate.wait))
        with Running(project.path) as run:
            wait_until("the step to begin", run.while_alive(gate.reached), timeout=PATIENCE)
            (container,) = wait_until("its start to be noted", events.started, timeout=SOON)
            run.kill()
        _await_end(events, container)
        assert _step(events) == [], "a layer was made of a step that did not end"

        gate.open()
        project.runpytest_subprocess(timeout=TIMEOUT).assert_outcomes(passed=1)

        assert len(_step(events)) == 1
        assert engine.remains(nonce) == []


def test_killed_in_the_middle_of_a_test(
    project: pytest.Pytester, engine: EngineUnderTest, base: OwnBase, nonce: str
) -> None:
    with engine.events() as events:
        project.makepyfile(TEST.format(base=base.reference, nonce=nonce))
        slow = project.path / "slow"
        slow.touch()
        with Running(project.path) as run:
            (container,) = _in_a_test(engine, events, run)
            run.kill()
        _await_end(events, container)

        slow.unlink()
        project.runpytest_subprocess(timeout=TIMEOUT).assert_outcomes(passed=2)

        assert engine.remains(nonce) == []


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGTERM], [signal.SIGHUP], [signal.SIGINT, signal.SIGINT]],
    ids=["SIGTERM", "SIGHUP", "Ctrl-C twice"],
)
def test_told_to_end_in_the_middle_of_a_test(
    project: pytest.Pytester, engine: EngineUnderTest, base: OwnBase, nonce: str, signals: list[signal.Signals]
) -> None:
    with engine.events() as events:
        project.makepyfile(TEST.format(base=base.reference, nonce=nonce))
        slow = project.path / "slow"
        slow.touch()
        with Running(project.path) as run:
            (container,) = _in_a_test(engine, events, run)
            for number in signals:
                run.send(number)
                time.sleep(0.05)
            run.wait(SOON)
        _await_end(events, container)

        slow.unlink()
        project.runpytest_subprocess(timeout=TIMEOUT).assert_outcomes(passed=2)

        assert engine.remains(nonce) == []


def test_one_xdist_worker_killed_in_the_middle_of_a_test(
    project: pytest.Pytester, engine: EngineUnderTest, base: OwnBase, nonce: str
) -> None:
    with engine.events() as events:
        project.makepyfile(TEST.format(base=base.reference, nonce=nonce))
        slow = project.path / "slow"
        slow.touch()
        with Running(project.path, "-n", "2", "--max-worker-restart", "0") as run:
            containers = _in_a_test(engine, events, run, workers=2)
            run.kill_child(run.children()[0])
            ended = wait_until(
                "the container of the killed worker to end", lambda: _ended(events, containers), timeout=SOON
            )
            assert len(ended) == 1, "the container of the other worker ended, too"
            run.kill()
        for container in containers:
            _await_end(events, container)

        slow.unlink()
        project.runpytest_subprocess("-n", "2", timeout=TIMEOUT).assert_outcomes(passed=2)

        assert engine.remains(nonce) == []


def _step(events: Events) -> list[str]:
    return [step for step in events.commits() if "SLOW" in step]


def _in_a_test(engine: EngineUnderTest, events: Events, run: Running, *, workers: int = 1) -> list[str]:
    """Wait until `workers` containers run a test each, and their start has been noted; return them."""

    def begun() -> list[str]:
        running = [container for container in engine.containers() if engine.has_file(container, "/begun")]
        return running if len(running) == workers and set(running) <= set(events.started()) else []

    found: list[str] = wait_until("a test to begin in each container", run.while_alive(begun), timeout=PATIENCE)
    return found


def _ended(events: Events, containers: list[str]) -> list[str]:
    return [container for container in events.ended() if container in containers]


def _await_end(events: Events, container: str) -> None:
    wait_until("the container to end", lambda: _ended(events, [container]), timeout=SOON)
