"""Workers that die, hang, or cannot start: one test fails with what is known, the others go on."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from engines import EngineUnderTest
from inner import Inner, Ran, failure_of, outcomes
from observing import wait_until

PROJECT = {
    "pytest.ini": "[pytest]\n",
    "images.py": """
        from pytest_imagebuild import Image

        IMAGE = Image.from_registry("python:3.13-slim-trixie")
        NO_PYTHON = Image.from_registry("debian:trixie")
        FAILS = IMAGE.run_commands("echo one line of output >&2; exit 7")
        """,
    "conftest.py": """
        import pytest

        try:
            from pytest_imagebuild.dispatch import dispatcher
        except ImportError:
            pass  # inside, where there is none
        else:
            dispatcher.MAX_DEATHS = 3


        @pytest.fixture(scope="module")
        def shared():
            return []
        """,
    "test_deaths.py": """
        import ctypes
        import os
        import signal
        import sys
        import time

        import pytest
        from images import IMAGE

        pytestmark = pytest.mark.image(IMAGE, env={"FOR": "deaths"})


        def test_before(shared):
            shared.append("before")


        def test_exits(shared, capsys):
            assert shared == ["before"]
            with capsys.disabled():
                print("last words", file=sys.stderr, flush=True)
            os._exit(3)


        def test_after(shared):
            assert shared == [], "a new session sets its fixtures up anew"


        def test_segfault():
            ctypes.string_at(0)


        def test_between():
            pass


        def test_killed():
            os.kill(os.getpid(), signal.SIGKILL)


        def test_never_run():
            pass
        """,
    "test_hangs.py": """
        import time

        import pytest
        from images import IMAGE

        pytestmark = pytest.mark.image(IMAGE, timeout=1.5)


        def hang():
            time.sleep(600)  # here it hangs


        def test_quick():
            pass


        def test_hangs():
            hang()


        @pytest.fixture
        def hangs_at_its_end():
            yield
            hang()


        def test_hangs_in_teardown(hangs_at_its_end):
            pass


        def test_quick_again():
            pass
        """,
    "test_not_importable.py": """
        import sys

        import pytest
        from images import IMAGE

        if sys.version_info[:2] == (3, 13):
            import no_such_module_inside

        pytestmark = pytest.mark.image(IMAGE)


        def test_one():
            pass


        def test_two():
            pass
        """,
    "test_broken_images.py": """
        import pytest
        from images import FAILS, NO_PYTHON


        @pytest.mark.image(NO_PYTHON)
        def test_no_python():
            pass


        @pytest.mark.parametrize("number", [1, 2])
        @pytest.mark.image(FAILS)
        def test_image_that_cannot_be_built(number):
            pass


        def test_on_the_host():
            pass
        """,
}


@pytest.fixture(scope="module")
def died(tmp_path_factory: pytest.TempPathFactory, engine: EngineUnderTest) -> Ran:
    return Inner(tmp_path_factory.mktemp("deaths"), engine).write(PROJECT).run("-v", "-rA")


@pytest.mark.parametrize("name", ["test_before", "test_after", "test_between", "test_quick", "test_quick_again"])
def test_tests_beside_one_that_dies_pass(died: Ran, name: str) -> None:
    assert outcomes(died)[name] == "PASSED", failure_of(died, name)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("test_exits", "The worker in the container ended with exit code 3."),
        ("test_segfault", "The worker in the container was killed by SIGSEGV."),
        ("test_killed", "The worker in the container was killed by SIGKILL."),
    ],
)
def test_a_test_whose_worker_dies_fails_with_the_exit_code_or_the_signal(died: Ran, name: str, sentence: str) -> None:
    assert outcomes(died)[name] == "FAILED"
    assert sentence in failure_of(died, name)


def test_the_last_output_of_a_dead_worker_is_shown(died: Ran) -> None:
    assert "- Last output of the worker -" in failure_of(died, "test_exits")
    assert "last words" in failure_of(died, "test_exits")


def test_a_segfault_shows_where_python_was(died: Ran) -> None:
    assert "Fatal Python error: Segmentation fault" in failure_of(died, "test_segfault")
    assert "in test_segfault" in failure_of(died, "test_segfault")


def test_after_too_many_deaths_the_rest_of_the_session_is_not_run(died: Ran) -> None:
    assert outcomes(died)["test_never_run"] == "ERROR"
    assert (
        "Not run: 3 workers of this image died before. The last one: The worker in the container was killed by SIGKILL."
    ) in died.out


@pytest.mark.parametrize("name", ["test_hangs", "test_hangs_in_teardown"])
def test_a_test_that_hangs_fails_with_the_line_where_it_was(died: Ran, name: str) -> None:
    assert outcomes(died)[name] == "FAILED"
    shown = failure_of(died, name)
    assert "The test did not end within 1.5 s, so its container was stopped." in shown
    assert 'test_hangs.py", line 10 in hang' in shown


@pytest.mark.parametrize("name", ["test_one", "test_two"])
def test_a_module_that_cannot_be_imported_inside_is_a_setup_error_with_the_reason(died: Ran, name: str) -> None:
    assert outcomes(died)[name] == "ERROR"
    shown = failure_of(died, name)
    assert "ModuleNotFoundError: No module named 'no_such_module_inside'" in shown
    assert "test_not_importable.py:7: in <module>" in shown


def test_an_image_without_python_says_what_to_do(died: Ran) -> None:
    assert outcomes(died)["test_no_python"] == "ERROR"
    shown = failure_of(died, "test_no_python")
    assert "Tests cannot run in this image: it has neither `python` nor `python3` on PATH. Use add_python" in shown


@pytest.mark.parametrize("number", [1, 2])
def test_an_image_that_cannot_be_built_is_a_setup_error_of_each_of_its_tests(died: Ran, number: int) -> None:
    name = f"test_image_that_cannot_be_built[{number}]"
    assert outcomes(died)[name] == "ERROR"
    shown = failure_of(died, name)
    assert "images.py:5: run_commands" in shown
    assert "command: echo one line of output >&2; exit 7" in shown
    assert "exit code: 7" in shown
    assert "one line of output" in shown


def test_tests_of_the_host_do_not_mind(died: Ran) -> None:
    assert outcomes(died)["test_on_the_host"] == "PASSED"


def test_no_traceback_of_ours_is_shown(died: Ran) -> None:
    assert "pytest_imagebuild/" not in died.text
    assert died.err == ""
    assert died.code == pytest.ExitCode.TESTS_FAILED


def test_dead_sessions_leave_no_container(died: Ran, engine: EngineUnderTest) -> None:
    assert died.lines
    assert engine.containers() == []


# The end of the whole run ------------------------------------------------------------------------------------------

SLEEPS = {
    "pytest.ini": "[pytest]\n",
    "test_sleeps.py": """
        import time

        import pytest
        from pytest_imagebuild import Image

        pytestmark = pytest.mark.image(Image.from_registry("python:3.13-slim-trixie"))


        @pytest.fixture(scope="module", autouse=True)
        def slow_end():
            yield
            time.sleep(600)


        def test_sleeps():
            print("now it sleeps")
            time.sleep(600)


        def test_later():
            pass
        """,
}


def test_ctrl_c_stops_at_once_and_leaves_no_container(tmp_path: Path, engine: EngineUnderTest) -> None:
    project = Inner(tmp_path, engine).write(SLEEPS)
    running = project.begin("-s", "-v")
    wait_until("the test to run", lambda: "now it sleeps" in running.out(), timeout=120)
    assert len(engine.containers()) == 1
    begun = time.monotonic()
    running.process.send_signal(signal.SIGINT)
    ran = running.wait(60)
    assert time.monotonic() - begun < 10
    assert ran.code == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in ran.out
    assert "Traceback" not in ran.err
    assert engine.containers() == []


ENDS = {
    "pytest.ini": "[pytest]\n",
    "images.py": """
        from pytest_imagebuild import Image

        IMAGE = Image.from_registry("python:3.13-slim-trixie")
        """,
    "test_a.py": """
        import pytest
        from images import IMAGE

        pytestmark = pytest.mark.image(IMAGE)


        @pytest.fixture(scope="module")
        def ends():
            yield
            print("the module's fixture ended")
            raise RuntimeError("at its end")


        def test_uses(ends):
            pass


        @pytest.mark.image(IMAGE, env={"ANOTHER": "session"})
        def test_elsewhere(request):
            ending(request)


        def test_last():
            pass


        def ending(request):
            {ending}
        """,
}


@pytest.mark.parametrize(
    ("ending", "arguments", "summary", "code"),
    [
        ("pytest.exit('enough', 5)", [], "_pytest.outcomes.Exit: enough", 5),
        ("pytest.fail('first')", ["-x"], "stopping after 2 failures", 1),
        ("request.session.shouldstop = 'it is said so'", [], "Interrupted: it is said so", 2),
        ("raise KeyboardInterrupt", [], "KeyboardInterrupt", 2),
    ],
    ids=["pytest.exit", "-x", "shouldstop", "KeyboardInterrupt"],
)
def test_a_test_that_ends_the_run_ends_it_and_the_other_sessions(
    tmp_path: Path,
    engine: EngineUnderTest,
    ending: str,
    arguments: list[str],
    summary: str,
    code: int,
) -> None:
    files = {name: text.replace("{ending}", ending) for name, text in ENDS.items()}
    ran = Inner(tmp_path, engine).write(files).run("-v", *arguments)
    assert ran.code == code
    assert f"!! {summary} !!" in ran.out
    assert "test_a.py::test_uses PASSED" in ran.out
    assert "test_last" not in outcomes(ran)
    if ending != "raise KeyboardInterrupt":
        assert "RuntimeError: at its end" in ran.out, "the fixture of the other session is torn down, and tells"
    assert engine.containers() == []


STOPS = {
    "pytest.ini": "[pytest]\n",
    "conftest.py": """
        def pytest_runtest_logreport(report):
            if report.nodeid.endswith("test_first") and report.when == "call":
                SESSIONS[0].shouldstop = "a conftest file has seen enough"


        SESSIONS = []


        def pytest_sessionstart(session):
            SESSIONS.append(session)
        """,
    "test_stops.py": """
        import time

        import pytest
        from pytest_imagebuild import Image

        pytestmark = pytest.mark.image(Image.from_registry("python:3.13-slim-trixie"))


        def test_first():
            pass


        def test_second():
            time.sleep(600)
        """,
}


def test_a_run_that_is_told_to_stop_does_not_wait_for_the_next_test(tmp_path: Path, engine: EngineUnderTest) -> None:
    ran = Inner(tmp_path, engine).write(STOPS).begin("-v").wait(90)
    assert ran.code == pytest.ExitCode.INTERRUPTED
    assert outcomes(ran) == {"test_first": "PASSED"}
    assert "!! Interrupted: a conftest file has seen enough !!" in ran.out
    assert engine.containers() == []
