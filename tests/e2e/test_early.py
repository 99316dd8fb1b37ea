"""Containers that start while pytest still collects: the second run of a command line finds its container there."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from bases import OwnBase
from engines import EngineUnderTest, Events
from observing import wait_until
from running import Running

TIMEOUT = 120
SOON = 60
"""Within so many seconds a container ends after its pytest was killed; by itself, it would go on waiting."""

WITH_CACHE = ("-p", "cacheprovider")

WAITS = """
import pathlib
import time
import pytest
from pytest_imagebuild import Image

signals = pathlib.Path("{signals}")
on_the_host = (signals / "waits").exists()
while on_the_host and not (signals / "go").exists():
    time.sleep(0.05)
if not signals.exists():
    pathlib.Path("/collected").touch()

@pytest.mark.image(Image.from_registry("{base}").env({{"NONCE": "{nonce}"}}){marker})
def test_inside():
    {body}
"""


@pytest.fixture
def waiting(project: pytest.Pytester, base: OwnBase, nonce: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file that lets the second run of the project collect; its first run is over.

    No container has it, nor the folder that it is in.
    """
    signals = tmp_path_factory.mktemp("signals")
    _write(project, base, nonce, signals)
    ran = project.run("env", "python", "-m", "pytest", "-p", "no:cacheprovider", *WITH_CACHE, timeout=TIMEOUT)
    ran.assert_outcomes(passed=1)
    (signals / "waits").touch()
    return signals / "go"


def _write(
    project: pytest.Pytester, base: OwnBase, nonce: str, signals: Path, *, marker: str = "", body: str = "pass"
) -> None:
    project.makepyfile(WAITS.format(base=base.reference, nonce=nonce, signals=signals, marker=marker, body=body))


def test_the_container_starts_before_the_tests_are_collected_and_is_the_one_that_runs_them(
    project: pytest.Pytester, engine: EngineUnderTest, waiting: Path, nonce: str
) -> None:
    with engine.events() as events, Running(project.path, *WITH_CACHE) as run:
        (early,) = _early(events, run)
        wait_until("the worker to collect", lambda: engine.has_file(early, "/collected"), timeout=TIMEOUT)
        waiting.touch()
        assert run.wait(TIMEOUT) == 0, run.output

        assert len(events.created()) == 1
    assert engine.remains(nonce) == []


def test_a_worker_that_has_collected_other_files_is_not_taken(
    project: pytest.Pytester, engine: EngineUnderTest, waiting: Path, nonce: str
) -> None:
    with engine.events() as events, Running(project.path, *WITH_CACHE) as run:
        (early,) = _early(events, run)
        wait_until("the worker to collect", lambda: engine.has_file(early, "/collected"), timeout=TIMEOUT)
        project.makefile(".txt", "comes while pytest collects")
        waiting.touch()
        assert run.wait(TIMEOUT) == 0, run.output

        assert len(events.created()) == 2
        assert early in events.ended()
    assert engine.remains(nonce) == []


@pytest.mark.parametrize(
    ("marker", "body"),
    [
        (', env={"SAID": "by the marker"}', 'import os; assert os.environ["SAID"] == "by the marker"'),
        (', isolation="test"', "pass"),
    ],
    ids=["told by its marker", "alone"],
)
def test_the_next_run_of_whatever_a_marker_says_is_as_the_first(
    project: pytest.Pytester, engine: EngineUnderTest, waiting: Path, base: OwnBase, nonce: str, marker: str, body: str
) -> None:
    waiting.touch()
    _write(project, base, nonce, waiting.parent, marker=marker, body=body)
    for _ in range(3):
        with Running(project.path, *WITH_CACHE) as run:
            assert run.wait(TIMEOUT) == 0, run.output
    assert engine.remains(nonce) == []


def test_one_that_does_not_fit_any_more_is_not_taken(
    project: pytest.Pytester, engine: EngineUnderTest, waiting: Path, base: OwnBase, nonce: str
) -> None:
    body = 'assert open("/proc/net/route").read().count(chr(10)) <= 1'
    _write(project, base, nonce, waiting.parent, marker=", network=False", body=body)

    with engine.events() as events, Running(project.path, *WITH_CACHE) as run:
        (early,) = _early(events, run)
        waiting.touch()
        assert run.wait(TIMEOUT) == 0, run.output

        assert len(events.created()) == 2
        assert early in events.ended()
    assert engine.remains(nonce) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
def test_it_ends_with_a_pytest_that_does_not_come_to_its_tests(
    project: pytest.Pytester, engine: EngineUnderTest, waiting: Path, nonce: str, number: signal.Signals
) -> None:
    with engine.events() as events, Running(project.path, *WITH_CACHE) as run:
        (early,) = _early(events, run)
        run.send(number)
        run.wait(SOON)

        wait_until("the container to end", lambda: early in events.ended(), timeout=SOON)
    waiting.touch()
    project.runpytest_subprocess(timeout=TIMEOUT).assert_outcomes(passed=1)
    assert engine.remains(nonce) == []


def test_it_ends_with_a_run_whose_files_cannot_be_imported_and_one_without_images_that_is_the_last_to_start_it(
    project: pytest.Pytester, engine: EngineUnderTest, waiting: Path, nonce: str
) -> None:
    waiting.touch()
    with engine.events() as events:
        created = []
        for source, code in (("1 / 0", 2), ("def test_host(): pass", 0), ("def test_host(): pass", 0)):
            project.makepyfile(source)
            with Running(project.path, *WITH_CACHE) as run:
                assert run.wait(TIMEOUT) == code, run.output
                assert "imagebuild (" not in run.output
            created.append(len(events.created()))
            assert len(events.ended()) == created[-1]
    assert created == [1, 2, 2]
    assert engine.remains(nonce) == []


def _early(events: Events, run: Running) -> list[str]:
    return wait_until("a container, while the test file waits", run.while_alive(events.started), timeout=TIMEOUT)  # type: ignore[no-any-return]
