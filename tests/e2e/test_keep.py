"""`--image-keep`: fresh containers that wait for the next run, and what becomes of them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bases import OwnBase
from engines import EngineUnderTest
from observing import keepers, wait_until
from running import Running

TIMEOUT = 120
SOON = 10.0
KEEP = "--image-keep"
WITH_CACHE = ("-p", "cacheprovider")

SOURCE = """
import os, pathlib, time
import pytest
from pytest_imagebuild import Image

@pytest.mark.image(Image.from_registry("{base}").env({{"NONCE": "{nonce}"}}))
@pytest.mark.parametrize("number", range({count}))
def test_inside(number):
    {body}
"""
LOADED = """
import sys

def pytest_unconfigure():
    print("loaded:", sorted({"docker", "pytest_imagebuild.engines.embedded.engine"} & set(sys.modules)))
"""
FRESH = 'assert os.environ["NONCE"]; (pathlib.Path("/") / f"mine{number}").touch(exist_ok=False)'


class Keeping:
    """The runs of a project, and the process that keeps their containers."""

    def __init__(self, project: pytest.Pytester, engine: EngineUnderTest, base: str, nonce: str) -> None:
        self.folder = project.path
        self._project = project
        self._engine = engine
        self._base = base
        self.nonce = nonce
        self.write(FRESH)

    def write(self, body: str, *, nonce: str = "", count: int = 1) -> None:
        source = SOURCE.format(base=self._base, nonce=nonce or self.nonce, body=body, count=count)
        self._project.makepyfile(test_it=source)

    def run(self, *flags: str, code: int = 0) -> str:
        """Run the tests; return what was printed."""
        with Running(self.folder, *flags) as run:
            assert run.wait(TIMEOUT) == code, run.output
            return run.output

    def processes(self) -> list[int]:
        """Return the ids of the processes that keep containers of the engine's cache folder."""
        return keepers(self._engine.cache_dir)

    def ready(self, count: int = 1) -> list[str]:
        """Return the containers that wait, once they are so many, each with its worker in it."""

        def waiting() -> list[str]:
            found = [one for one in self._engine.containers() if not self.has_ended(one)]
            return found if len(found) == count and self.processes() else []

        found: list[str] = wait_until(f"{count} containers to wait", waiting)
        return found

    def has_ended(self, container: str) -> bool:
        """Say whether no process runs in a container any more."""
        return not self._engine.has_file(container, "/usr")

    def end(self) -> None:
        """End what is kept."""
        for pid in self.processes():
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGTERM)
        self.gone()

    def gone(self) -> None:
        """Wait until nothing is kept."""
        wait_until("the process to end", lambda: not self.processes(), timeout=30)


@pytest.fixture
def keeping(project: pytest.Pytester, engine: EngineUnderTest, base: OwnBase, nonce: str) -> Iterator[Keeping]:
    """Return a project whose tests need that no test has been in their container."""
    keeping = Keeping(project, engine, base.reference, nonce)
    yield keeping
    keeping.end()
    assert engine.remains(nonce) == []


@pytest.mark.parametrize("flags", [(), WITH_CACHE], ids=["", "early"])
def test_a_run_gets_a_container_that_waited_and_that_no_test_has_been_in(
    keeping: Keeping, flags: tuple[str, ...]
) -> None:
    assert "containers kept" not in keeping.run(KEEP, *flags)
    for _ in range(3):
        waits = keeping.ready()
        printed = keeping.run(KEEP, *flags)
        assert printed.splitlines()[-2].endswith("; containers kept: 1")
        assert keeping.ready() != waits
    assert len(keeping.processes()) == 1


def test_a_run_without_the_flag_takes_none(keeping: Keeping) -> None:
    keeping.run(KEEP)
    waits = keeping.ready()
    assert "containers kept" not in keeping.run()
    assert keeping.ready() == waits


def test_the_workers_of_xdist_get_one_each(keeping: Keeping) -> None:
    pytest.importorskip("xdist")
    keeping.write(FRESH, count=8)
    distributed = (KEEP, "-p", "xdist", "-n", "2")
    keeping.run(*distributed)
    keeping.ready(2)
    assert "; containers kept: 2" in keeping.run(*distributed)
    keeping.ready(2)


def test_they_wait_as_long_as_the_ini_file_says_and_leave_nothing(
    keeping: Keeping, project: pytest.Pytester, engine: EngineUnderTest, nonce: str
) -> None:
    project.makeini("[pytest]\nimage_keep = 0.1m\n")
    keeping.run()
    keeping.ready()
    assert "; containers kept: 1" in keeping.run()
    keeping.ready()
    keeping.gone()
    assert engine.remains(nonce) == []


def test_prune_ends_them(keeping: Keeping, project: pytest.Pytester) -> None:
    keeping.run(KEEP)
    keeping.ready()
    imagebuild = str(Path(sys.executable).with_name("imagebuild"))
    rehearsed = project.run(imagebuild, "prune", "--dry-run", timeout=TIMEOUT)
    assert not [line for line in rehearsed.stdout.lines if line.startswith("ended")]
    keeping.ready()
    pruned = project.run(imagebuild, "prune", timeout=TIMEOUT)
    assert pruned.stdout.lines[0] == "ended: 1 container that waited for a run", pruned.stdout.str()
    keeping.gone()


def test_another_definition_gets_a_container_of_its_own(keeping: Keeping) -> None:
    keeping.run(KEEP)
    keeping.ready()
    keeping.write('assert os.environ["NONCE"] == "other"', nonce="other")
    assert "containers kept" not in keeping.run(KEEP)
    keeping.ready(2)
    assert "; containers kept: 1" in keeping.run(KEEP)


def test_an_image_that_was_built_anew_gets_a_container_of_its_own(keeping: Keeping, engine: EngineUnderTest) -> None:
    keeping.run(KEEP)
    (old,) = keeping.ready()
    assert "containers kept" not in keeping.run(KEEP, "--force-build")
    keeping.ready(2)
    assert "; containers kept: 1" in keeping.run(KEEP)
    assert old in keeping.ready(2)
    # What was replaced goes an hour later, when nothing is on it.
    keeping.end()
    engine.sweep_settled(keeping.nonce)


def test_a_worker_that_dies_in_one_is_told_of_as_ever(keeping: Keeping) -> None:
    keeping.write("os._exit(3)")
    first = keeping.run(KEEP, code=1)
    keeping.ready()
    second = keeping.run(KEEP, code=1)
    assert "; containers kept: 1" in second
    death = [line for line in first.splitlines() if line.startswith(("E ", "FAILED", "ERROR"))]
    assert death
    assert [line for line in second.splitlines() if line.startswith(("E ", "FAILED", "ERROR"))] == death


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
def test_the_container_of_a_run_that_is_ended_ends(
    keeping: Keeping, engine: EngineUnderTest, number: signal.Signals
) -> None:
    keeping.run(KEEP)
    (waits,) = keeping.ready()
    keeping.write('pathlib.Path("/begun").touch(); time.sleep(600)')
    with Running(keeping.folder, KEEP) as run:
        wait_until("the test to begin", run.while_alive(lambda: engine.has_file(waits, "/begun")))
        run.send(number)
        run.wait(20)
        wait_until("the container to end", lambda: keeping.has_ended(waits), timeout=SOON)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_they_end_with_the_process_that_keeps_them_and_the_next_run_starts_another(
    keeping: Keeping, number: signal.Signals
) -> None:
    keeping.run(KEEP)
    (waits,) = keeping.ready()
    (pid,) = keeping.processes()
    os.kill(pid, number)
    wait_until("the container to end", lambda: keeping.has_ended(waits), timeout=SOON)
    printed = keeping.run(KEEP)
    assert "kept" not in printed
    keeping.ready()
    assert keeping.processes() != [pid]


def test_a_run_whose_container_goes_with_the_process_that_kept_it_says_so_and_goes_on(
    keeping: Keeping, engine: EngineUnderTest
) -> None:
    keeping.run(KEEP)
    (waits,) = keeping.ready()
    (pid,) = keeping.processes()
    keeping.write('pathlib.Path("/begun").touch(); time.sleep(0 if number else 5); assert number', count=2)
    with Running(keeping.folder, KEEP) as run:
        wait_until("the test to begin", run.while_alive(lambda: engine.has_file(waits, "/begun")))
        os.kill(pid, signal.SIGKILL)
        assert run.wait(TIMEOUT) == 1
        assert "1 failed, 1 passed" in run.output
        assert "The process that kept the container has ended." in run.output
    # It removes what the dead left.
    keeping.run(code=1)


def test_the_process_that_keeps_them_answers_for_the_engine_and_the_engine_is_opened_where_that_is_not_enough(
    keeping: Keeping,
) -> None:
    keeping.run(KEEP)
    keeping.ready()
    (keeping.folder / "conftest.py").write_text(LOADED)
    assert "loaded: []" in keeping.run(KEEP)
    keeping.ready()
    assert "loaded: []" not in keeping.run()
    keeping.write(FRESH, nonce="other")
    printed = keeping.run(KEEP)
    assert "loaded: []" not in printed
    assert "built 2" in printed
    keeping.ready(2)
    assert "loaded: []" in keeping.run(KEEP)


def test_what_the_dead_left_goes_after_a_run_for_which_that_process_answered(
    keeping: Keeping, engine: EngineUnderTest
) -> None:
    def begun(container: str) -> bool:
        return engine.has_file(container, "/begun")

    keeping.run(KEEP)
    keeping.ready()
    waits = {*engine.remains(keeping.nonce)}
    keeping.write('pathlib.Path("/begun").touch(); time.sleep(600)')
    with Running(keeping.folder) as run:
        wait_until("the test to begin", run.while_alive(lambda: any(map(begun, engine.containers()))))
        run.kill()
    left = {*engine.remains(keeping.nonce)} - waits
    assert left, "nothing to sweep"
    keeping.write(FRESH)
    assert "; containers kept: 1" in keeping.run(KEEP)
    wait_until("what was left to go", lambda: not left & {*engine.remains(keeping.nonce)})


def test_a_process_that_does_not_answer_is_left_alone(keeping: Keeping) -> None:
    keeping.run(KEEP)
    keeping.ready()
    (pid,) = keeping.processes()
    os.kill(pid, signal.SIGSTOP)
    printed = keeping.run(KEEP)
    assert "containers kept" not in printed
    assert f"does not answer. End it: kill -9 {pid}" in printed


def test_what_keeps_the_process_from_starting_is_told_and_fails_no_test(
    keeping: Keeping, engine: EngineUnderTest
) -> None:
    keeping.run(KEEP)
    # Only a process that lives has one.
    (socket,) = (engine.cache_dir / "keepers").glob("*/*/socket")
    keeping.end()
    socket.mkdir()
    assert "imagebuild: no container can be kept for the next run: [Errno 21] Is a directory" in keeping.run(KEEP)
    socket.rmdir()
    assert "no container can be kept" not in keeping.run(KEEP)
    keeping.ready()
