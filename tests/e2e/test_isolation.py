"""`isolation="test"`: every test finds the file system as the image has it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from engines import EngineUnderTest
from inner import Inner, Ran, failure_of, outcomes
from observing import wait_until

IMAGES = """
    from pytest_imagebuild import Image

    IMAGE = Image.from_registry("python:3.13-slim-trixie")
    """

PROJECT = {
    "pytest.ini": "[pytest]\n",
    "images.py": IMAGES,
    "conftest.py": """
        from pathlib import Path

        import pytest


        @pytest.fixture(scope="session")
        def set_up():
            with Path("/set-up").open("a") as file:
                file.write("once ")
            yield Path("/set-up").read_text()
            print("the session's fixture ended")


        @pytest.fixture(scope="module")
        def fails_at_its_end():
            yield
            raise RuntimeError("at its end")
        """,
    "test_isolated.py": """
        import os
        import shutil
        import time
        from pathlib import Path

        import pytest
        from images import IMAGE

        pytestmark = pytest.mark.image(IMAGE, isolation="test", timeout=20)


        @pytest.mark.parametrize("number", range(4))
        def test_writes(number):
            assert not Path("/written").exists()
            Path("/written").write_text("by one test, for itself")


        def test_breaks_the_image():
            shutil.rmtree("/usr/share")
            shutil.rmtree("/usr/lib/python3", ignore_errors=True)


        def test_has_an_image_that_is_whole():
            assert Path("/usr/share").is_dir()


        def test_spoils_the_project():
            Path(__file__).with_name("images.py").write_text("raise SystemExit")


        def test_has_the_project_as_it_was():
            assert "raise" not in Path(__file__).with_name("images.py").read_text()


        @pytest.mark.parametrize("number", range(2))
        def test_sets_wider_fixtures_up_anew(set_up, number):
            assert set_up == "once "


        def test_with_a_bad_end(fails_at_its_end):
            pass


        def test_dies():
            os._exit(3)


        def test_after_a_death():
            pass


        @pytest.mark.image(IMAGE, isolation="test", timeout=1.5)
        def test_hangs():
            time.sleep(600)


        def test_after_a_hang():
            pass


        def test_fails():
            assert Path("/written").exists()


        @pytest.mark.image(IMAGE)
        def test_shares():
            Path("/shared").touch()


        @pytest.mark.image(IMAGE)
        def test_shares_too():
            assert Path("/shared").exists()
        """,
    "test_other_file.py": """
        import pytest
        from images import IMAGE


        @pytest.mark.image(IMAGE, isolation="test")
        class TestIt:
            def test_one(self):
                with open("/written", "x"):
                    pass

            def test_two(self):
                with open("/written", "x"):
                    pass
        """,
}
DIES = ("test_dies", "test_hangs")
PASSES = (
    *(f"test_writes[{number}]" for number in range(4)),
    "test_breaks_the_image",
    "test_has_an_image_that_is_whole",
    "test_spoils_the_project",
    "test_has_the_project_as_it_was",
    "test_sets_wider_fixtures_up_anew[0]",
    "test_sets_wider_fixtures_up_anew[1]",
    "test_after_a_death",
    "test_after_a_hang",
    "test_shares",
    "test_shares_too",
    "TestIt::test_one",
    "TestIt::test_two",
)


def summary(ran: Ran) -> str:
    return ran.lines[-1].strip("= ").partition(" in ")[0]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, engine: EngineUnderTest) -> Inner:
    return Inner(tmp_path_factory.mktemp("isolation"), engine).write(PROJECT)


@pytest.fixture(scope="module")
def ran(project: Inner) -> Ran:
    return project.run("-v")


@pytest.mark.parametrize("name", PASSES)
def test_what_one_test_did_no_other_sees(ran: Ran, name: str) -> None:
    assert outcomes(ran)[name] == "PASSED", ran.text


def test_a_failure_is_told_as_always(ran: Ran) -> None:
    assert outcomes(ran)["test_fails"] == "FAILED"
    assert 'assert Path("/written").exists()' in failure_of(ran, "test_fails")


def test_a_fixture_that_fails_at_its_end_is_an_error_of_its_test(ran: Ran) -> None:
    assert "ERROR at teardown of test_with_a_bad_end" in ran.out
    assert "RuntimeError: at its end" in ran.out


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("test_dies", "The worker in the container ended with exit code 3."),
        ("test_hangs", "The test did not end within 1.5 s, so its container was stopped."),
    ],
)
def test_a_death_is_the_failure_of_one_test(ran: Ran, name: str, sentence: str) -> None:
    assert outcomes(ran)[name] == "FAILED"
    assert sentence in failure_of(ran, name)


def test_a_hang_is_shown_with_the_line_where_it_was(ran: Ran) -> None:
    assert " in test_hangs" in failure_of(ran, "test_hangs")


def test_the_order_stays_as_collected(project: Inner, ran: Ran) -> None:
    host = project.run("--collect-only", "-q")
    collected = [line.partition("::")[2] for line in host.lines if "::" in line]
    assert list(outcomes(ran)) == collected


def test_no_container_is_left(ran: Ran, engine: EngineUnderTest) -> None:
    assert ran.lines
    assert engine.containers() == []


def test_no_container_is_started_that_no_test_uses(tmp_path: Path, engine: EngineUnderTest) -> None:
    count = 12
    files = {
        "pytest.ini": "[pytest]\n",
        "images.py": IMAGES,
        "test_many.py": f"""
            import pytest
            from images import IMAGE

            @pytest.mark.image(IMAGE, isolation="test")
            @pytest.mark.parametrize("number", range({count}))
            def test_one(number):
                pass
            """,
    }
    with engine.events() as events:
        ran = Inner(tmp_path, engine).write(files).run()
        assert f"{count} passed" in ran.out, ran.text
        # One for each test, or one that can copy itself.
        assert len(events.started()) in ((count,) if engine.name == "docker" else (1, count))
    assert engine.containers() == []


def test_more_tests_than_may_die_in_one_session_die_each_for_itself(tmp_path: Path, engine: EngineUnderTest) -> None:
    files = {
        "pytest.ini": "[pytest]\n",
        "images.py": IMAGES,
        "test_many.py": """
            import os
            import pytest
            from images import IMAGE

            @pytest.mark.image(IMAGE, isolation="test")
            @pytest.mark.parametrize("number", range(12))
            def test_one(number):
                if number < 11:
                    os._exit(1)
            """,
    }
    assert "11 failed, 1 passed" in Inner(tmp_path, engine).write(files).run("-q").out


def test_the_first_failure_ends_the_run_and_the_waiting_containers(tmp_path: Path, engine: EngineUnderTest) -> None:
    project = Inner(tmp_path, engine).write(PROJECT)
    first = project.run("-x", "-v", "test_isolated.py", "--deselect", "test_isolated.py::test_with_a_bad_end")
    assert list(outcomes(first).values()).count("FAILED") == 1
    assert list(outcomes(first))[-1] == "test_dies"
    assert engine.containers() == []
    again = project.run("--lf", "-v", "test_isolated.py")
    assert outcomes(again) == {"test_dies": "FAILED"}


def test_distributed_tests_are_isolated_too(project: Inner, ran: Ran, engine: EngineUnderTest) -> None:
    pytest.importorskip("xdist")
    # By file: two of the tests share a container, so one process must have both.
    distributed = project.run("-p", "xdist", "-n", "2", "--dist", "loadfile", "-rA")
    for name, outcome in outcomes(ran).items():
        assert f"{outcome} test_" in distributed.out
        assert f"::{name}" in distributed.out
    assert summary(distributed) == summary(ran)
    assert engine.containers() == []


def test_another_isolation_is_refused_at_the_line_of_the_test(tmp_path: Path, engine: EngineUnderTest) -> None:
    files = {
        "pytest.ini": "[pytest]\n",
        "images.py": IMAGES,
        "test_it.py": """
            import pytest
            from images import IMAGE

            @pytest.mark.image(IMAGE, isolation="bogus")
            def test_one():
                pass
            """,
    }
    ran = Inner(tmp_path, engine).write(files).run()
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    sentence = 'test_it.py:4: @pytest.mark.image of test_one: isolation takes "session" or "test", found \'bogus\'.'
    assert sentence in ran.err


def test_ctrl_c_ends_the_waiting_containers_too(tmp_path: Path, engine: EngineUnderTest) -> None:
    files = {
        "pytest.ini": "[pytest]\n",
        "images.py": IMAGES,
        "test_it.py": """
            import time
            import pytest
            from images import IMAGE

            @pytest.mark.image(IMAGE, isolation="test")
            @pytest.mark.parametrize("number", range(9))
            def test_sleeps(number):
                print("now it sleeps")
                time.sleep(600)
            """,
    }
    running = Inner(tmp_path, engine).write(files).begin("-s")
    wait_until("the test to run", lambda: "now it sleeps" in running.out(), timeout=120)
    running.process.send_signal(signal.SIGINT)
    assert running.wait(60).code == pytest.ExitCode.INTERRUPTED
    assert engine.containers() == []
