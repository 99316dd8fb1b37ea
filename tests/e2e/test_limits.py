"""`memory=` and `cpu=` of the marker, as a user meets them."""

from __future__ import annotations

from pathlib import Path

import pytest
from engines import EngineUnderTest
from inner import Inner, Ran, failure_of, outcomes

PROJECT = {
    "pytest.ini": "[pytest]\n",
    "images.py": """
        from pytest_imagebuild import Image

        IMAGE = Image.from_registry("python:3.13-slim-trixie")
        """,
    "test_memory.py": """
        import os

        import pytest
        from images import IMAGE

        pytestmark = pytest.mark.image(IMAGE, memory=150)


        def eat(size):
            held = bytearray(size << 20)
            for at in range(0, len(held), 4096):
                held[at] = 1
            return held


        def test_little():
            eat(20)


        def test_too_much():
            eat(400)


        def test_too_much_in_a_child():
            child = os.fork()
            if child == 0:
                eat(400)
                os._exit(0)
            assert os.waitpid(child, 0)[1] != 0


        def test_the_next():
            pass


        @pytest.mark.image(IMAGE, memory="1G")
        def test_enough():
            eat(400)
        """,
    "test_cpu.py": """
        import time

        import pytest
        from images import IMAGE


        @pytest.mark.image(IMAGE, cpu=0.25)
        def test_slowed():
            begun = time.monotonic()
            while time.process_time() < 0.7:
                pass
            # A period's share comes at once.
            assert time.monotonic() - begun > 1.0
        """,
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, engine: EngineUnderTest) -> Ran:
    return Inner(tmp_path_factory.mktemp("limits"), engine).write(PROJECT).run("-v", "-rA")


@pytest.mark.parametrize(
    "name", ["test_little", "test_too_much_in_a_child", "test_the_next", "test_enough", "test_slowed"]
)
def test_a_test_within_its_limits_passes(ran: Ran, name: str) -> None:
    assert outcomes(ran)[name] == "PASSED", ran.text


def test_a_test_that_needs_more_memory_fails_and_is_told_how_much_it_had(ran: Ran) -> None:
    assert outcomes(ran)["test_too_much"] == "FAILED"
    shown = failure_of(ran, "test_too_much")
    assert "The worker in the container was killed because the container ran out of memory." in shown
    assert "The marker gives it memory=150 (MiB). Give it more, or let the test use less." in shown


def test_a_machine_that_holds_every_limit_warns_of_none(ran: Ran) -> None:
    assert "LimitWarning" not in ran.text


def test_a_wrong_limit_is_refused_at_the_line_of_the_test(tmp_path: Path, engine: EngineUnderTest) -> None:
    files = {
        "pytest.ini": "[pytest]\n",
        "images.py": PROJECT["images.py"],
        "test_it.py": """
            import pytest
            from images import IMAGE

            @pytest.mark.image(IMAGE, memory="lots")
            def test_one():
                pass
            """,
    }
    ran = Inner(tmp_path, engine).write(files).run()
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    assert "test_it.py:4: @pytest.mark.image of test_one: memory takes a number of MiB" in ran.err
