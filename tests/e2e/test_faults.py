"""Tests that do harm to their own process: each fails or passes for itself, and the next one runs."""

from __future__ import annotations

import pytest
from engines import EngineUnderTest
from inner import Inner, Ran, failure_of, outcomes

PROJECT = {
    "pytest.ini": "[pytest]\n",
    "test_harm.py": """
        import os
        import resource
        import signal
        import sys
        import threading
        import time

        import pytest
        from pytest_imagebuild import Image

        pytestmark = pytest.mark.image(Image.from_registry("python:3.13-slim-trixie"))


        def test_closes_its_streams():
            sys.__stdout__.close()
            sys.__stderr__.close()


        def test_after_closed_streams():
            print("still heard")
            assert 1 == 2


        def test_closes_its_descriptors():
            os.close(0)
            os.close(1)
            os.close(2)


        def test_after_closed_descriptors():
            pass


        def test_writes_garbage_everywhere():
            for fd in range(3, 300):
                try:
                    os.write(fd, b"garbage \\xff\\x00 {\\n")
                except OSError:
                    pass


        def test_after_garbage():
            pass


        def test_pretends_to_be_done():
            line = b'{"type": "done", "item": "test_harm.py::test_pretends_to_be_done", "stop": null}\\n'
            for fd in range(3, 300):
                try:
                    os.write(fd, line)
                except OSError:
                    pass
            assert False, "this must not get lost"


        def test_after_a_pretence():
            pass


        def test_stops_itself():
            os.kill(os.getpid(), signal.SIGSTOP)


        def test_after_a_stop():
            pass


        def test_leaves_a_thread_and_a_child():
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
            if os.fork() == 0:
                time.sleep(600)
                os._exit(0)


        def test_has_no_descriptors_left():
            resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))
            open("/etc/passwd")


        def test_after_no_descriptors():
            pass


        @pytest.mark.parametrize("size", [100, 20_000_000])
        def test_has_much_to_say(size):
            assert "x" * size == ""


        def test_last():
            pass
        """,
}


@pytest.fixture(scope="module")
def ran(engine: EngineUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Return what came of the tests above."""
    project = Inner(tmp_path_factory.mktemp("harm"), engine).write(PROJECT)
    stops = "        def test_stops_itself"
    timed = PROJECT["test_harm.py"].replace(stops, f"        @pytest.mark.image({IMAGE}, timeout=3)\n{stops}")
    return project.write({"test_harm.py": timed}).run("-v", "-rA")


IMAGE = 'Image.from_registry("python:3.13-slim-trixie")'
FAILING = {
    "test_after_closed_streams",
    "test_writes_garbage_everywhere",
    "test_pretends_to_be_done",
    "test_stops_itself",
    "test_has_no_descriptors_left",
}


def test_each_test_has_an_outcome_and_only_those_fail_that_do_harm(ran: Ran) -> None:
    found = outcomes(ran)
    failed = {name for name, outcome in found.items() if outcome != "PASSED"}
    assert {name for name in failed if "has_much_to_say" not in name} == FAILING
    assert sum("has_much_to_say" in name for name in failed) == 2
    assert len(found) == 16
    assert ran.code == pytest.ExitCode.TESTS_FAILED


def test_what_is_printed_after_streams_were_closed_is_kept(ran: Ran) -> None:
    assert "still heard" in failure_of(ran, "test_after_closed_streams")


def test_a_pretence_is_told_as_one(ran: Ran) -> None:
    told = failure_of(ran, "test_pretends_to_be_done")
    assert "it has not reported how it went" in told


def test_the_failure_of_one_that_stops_is_its_timeout(ran: Ran) -> None:
    assert "The test did not end within 3 s" in failure_of(ran, "test_stops_itself")


def test_no_container_is_left(ran: Ran, engine: EngineUnderTest) -> None:
    assert ran.out
    assert engine.containers() == []
