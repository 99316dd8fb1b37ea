# A message of another kind than the test expects fails it where it is used.
# mypy: disable-error-code="union-attr, index, arg-type, attr-defined, method-assign"
"""The worker can end in many ways; the controller always knows how, and nothing stays behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from live_worker import PACKAGE_HOME, Makes, gone

from pytest_imagebuild.session.messages import Interrupted, Report
from pytest_imagebuild.session.session import WorkerDied, WorkerFailedToStart, WorkerTimeout


def died(live: Any, item: str = "test_it.py::test_it", **options: Any) -> WorkerDied:
    with pytest.raises(WorkerDied) as error:
        live.run(item, **options)
    assert live.container.process.wait(20) is not None
    return error.value


def test_finish_ends_the_process_with_zero_even_after_failures(worker: Makes) -> None:
    live = worker("def test_it(): assert False").start()
    live.run("test_it.py::test_it")

    assert live.finish() == []
    assert live.container.process.returncode == 0


def test_what_runs_at_the_exit_of_python_runs(worker: Makes) -> None:
    live = worker(
        """
        import atexit, pathlib

        def test_it() -> None:
            atexit.register(lambda: pathlib.Path("done.txt").write_text("done"))
        """
    ).start()
    live.run("test_it.py::test_it")
    live.finish()

    assert (live.project / "done.txt").read_text() == "done"


def test_an_exit_in_the_middle_of_a_test_is_told_with_its_code_and_the_last_output(worker: Makes) -> None:
    live = worker(
        """
        import os

        def test_it() -> None:
            print("last words", flush=True)
            os._exit(7)
        """
    ).start(options={"capture": "no"})
    error = died(live)

    assert (error.code, error.signal, error.out_of_memory) == (7, None, False)
    assert error.output == "last words\n"
    assert str(error) == "The worker in the container ended with exit code 7."


def test_a_segfault_is_told_with_its_signal_and_the_line(worker: Makes) -> None:
    live = worker(
        """
        import ctypes

        def test_it() -> None:
            ctypes.string_at(0)
        """
    ).start()
    error = died(live)

    assert (error.code, error.signal) == (None, signal.SIGSEGV)
    assert str(error) == "The worker in the container was killed by SIGSEGV."
    assert 'test_it.py", line 4 in test_it' in error.output


def test_a_killed_worker_is_told(worker: Makes) -> None:
    live = worker("import os, signal\ndef test_it(): os.kill(os.getpid(), signal.SIGKILL)").start()

    assert died(live).signal == signal.SIGKILL


def test_a_crash_in_one_test_leaves_the_reports_before_it(worker: Makes) -> None:
    live = worker("import os\ndef test_a(): pass\ndef test_b(): os._exit(1)").start()

    assert live.run("test_it.py::test_a", "test_it.py::test_b").outcomes["call"] == "passed"
    assert died(live, "test_it.py::test_b").code == 1
    assert died(live, "test_it.py::test_b").code == 1


def test_a_crash_while_collecting_is_told(worker: Makes) -> None:
    assert died(worker("import os\nos._exit(9)\ndef test_it(): pass").start()).code == 9


def test_the_supervisor_killed_is_told(worker: Makes) -> None:
    live = worker("import os, signal\ndef test_it(): os.kill(os.getppid(), signal.SIGKILL)").start()

    assert died(live).signal == signal.SIGKILL


def test_a_python_that_cannot_start_is_told_with_what_it_printed(worker: Makes) -> None:
    live = worker("def test_it(): pass")
    live.container.stop()
    live.container.channel.error_output = lambda: b"python: not found"
    live.start()

    assert "python: not found" in str(died(live))


def test_a_test_that_hangs_is_ended_and_its_line_named(worker: Makes) -> None:
    live = worker(
        """
        import threading, time

        def other():
            time.sleep(600)

        def test_it() -> None:
            threading.Thread(target=other, daemon=True).start()
            time.sleep(600)
        """
    ).start()
    live.run("test_it.py::no_such_test")
    started = time.monotonic()
    with pytest.raises(WorkerTimeout) as error:
        live.run("test_it.py::test_it", timeout=0.5)

    assert time.monotonic() - started < 5
    assert str(error.value) == "The test did not end within 0.5 s, so its container was stopped."
    assert 'test_it.py", line 8 in test_it' in error.value.stacks
    assert 'test_it.py", line 4 in other' in error.value.stacks
    assert live.container.process.poll() is not None


def test_a_test_that_floods_its_output_times_out_too(worker: Makes) -> None:
    live = worker("import os\ndef test_it():\n while True: os.write(1, b'x' * 4096)").start(options={"capture": "no"})

    with pytest.raises(WorkerTimeout):
        live.run("test_it.py::test_it", timeout=0.5)


FAMILY = """
    import os, subprocess, sys, time

    def test_it() -> None:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print(os.getpid(), os.getppid(), child.pid, flush=True)
        {then}
"""


def test_a_collection_that_hangs_is_ended_and_its_line_named(worker: Makes) -> None:
    live = worker("import time\ntime.sleep(600)").start(start_timeout=4.0)

    with pytest.raises(WorkerTimeout, match="The worker had not collected its tests within 4 s") as error:
        live.run("test_it.py::test_it")
    assert 'test_it.py", line 2 in <module>' in error.value.stacks


def test_an_error_of_a_hook_while_collecting_keeps_the_worker_from_starting(worker: Makes) -> None:
    live = worker(
        {
            "conftest.py": "def pytest_collection_modifyitems(): raise OSError('odd plugin')",
            "test_it.py": "def test_it(): pass",
        }
    ).start()

    with pytest.raises(WorkerFailedToStart, match="OSError: odd plugin"):
        live.run("test_it.py::test_it")


def test_a_segfault_while_conftest_files_are_imported_names_the_line(worker: Makes) -> None:
    live = worker({"conftest.py": "import ctypes\nctypes.string_at(0)", "test_it.py": "def test_it(): pass"}).start()

    assert 'conftest.py", line 2 in <module>' in died(live).output


@pytest.mark.parametrize("then", ["time.sleep(600)", "os._exit(1)", "while True: pass"])
def test_no_process_is_left_when_the_controller_goes_or_the_worker_dies(worker: Makes, then: Any) -> None:
    live = worker(FAMILY.format(then=then)).start(options={"capture": "no"})
    pids: list[str] = []
    for message in live.session.run("test_it.py::test_it", None, 0, 20):
        if not isinstance(message, Report):
            pids = message.data.split()
            break
    live.container.channel.close()

    assert len(pids) == 3
    assert all(gone(int(pid)) for pid in pids)


def test_a_controller_that_is_killed_takes_its_worker_along(worker: Makes, tmp_path: Path) -> None:
    live = worker(FAMILY.format(then="time.sleep(600)")).start(options={"capture": "no"})
    pids = next(m.data.split() for m in live.session.run("test_it.py::test_it", None, 0, 20) if hasattr(m, "stream"))
    live.session.stop()

    assert all(gone(int(pid)) for pid in pids)


def test_signals_reach_the_worker(worker: Makes) -> None:
    live = worker(
        """
        import os, signal, time

        def test_it() -> None:
            seen = []
            signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
            os.kill(os.getppid(), signal.SIGUSR1)
            end = time.monotonic() + 10
            while not seen and time.monotonic() < end:
                time.sleep(0.01)
            assert seen
        """
    ).start()

    assert live.run("test_it.py::test_it").failure == ""


def test_pytest_exit_is_told_and_fixtures_are_torn_down(worker: Makes) -> None:
    live = worker(
        """
        import pathlib, pytest

        @pytest.fixture(scope="session")
        def resource():
            yield
            pathlib.Path("down.txt").touch()

        def test_it(resource) -> None:
            pytest.exit("no more", returncode=3)
        """
    ).start()
    run = live.run("test_it.py::test_it")

    assert run.messages[-1] == Interrupted(kind="exit", reason="no more", returncode=3)
    assert live.finish() == []
    assert (live.project / "down.txt").exists()
    assert live.container.process.returncode == 3


@pytest.mark.parametrize("hook", ["pytest_configure", "pytest_sessionstart", "pytest_collection_modifyitems"])
def test_pytest_exit_before_the_first_test_is_told(worker: Makes, hook: Any) -> None:
    live = worker(
        {"test_it.py": "def test_it(): pass", "conftest.py": f"import pytest\ndef {hook}(): pytest.exit('at once')"}
    ).start()
    run = live.run("test_it.py::test_it")

    assert run.messages[-1] == Interrupted(kind="exit", reason="at once", returncode=None)


def test_a_keyboard_interrupt_is_told(worker: Makes) -> None:
    live = worker("def test_it(): raise KeyboardInterrupt").start()
    run = live.run("test_it.py::test_it")

    assert isinstance(run.messages[-1], Interrupted)
    assert run.messages[-1].kind == "keyboard"


def test_an_interrupt_signal_to_the_supervisor_interrupts_the_test(worker: Makes) -> None:
    live = worker(
        """
        import os, signal, time

        def test_it() -> None:
            os.kill(os.getppid(), signal.SIGINT)
            time.sleep(20)
        """
    ).start()

    assert live.run("test_it.py::test_it").messages[-1].kind == "keyboard"


def test_an_error_in_pytest_itself_comes_with_its_traceback(worker: Makes) -> None:
    live = worker(
        {
            "conftest.py": "def pytest_runtest_logstart(): raise OSError('odd plugin')",
            "test_it.py": "def test_it(): pass",
        }
    ).start()
    error = died(live)

    assert error.code == 3
    assert "OSError: odd plugin" in error.detail


def test_a_test_that_forks_and_lets_the_copy_return_does_not_double_the_worker(worker: Makes) -> None:
    live = worker(
        """
        import os

        def test_it() -> None:
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)

        def test_next() -> None:
            pass
        """
    ).start()

    run = live.run("test_it.py::test_it", "test_it.py::test_next")
    assert [message.data["when"] for message in run.messages if isinstance(message, Report)] == [
        "setup",
        "call",
        "teardown",
    ]
    assert live.run("test_it.py::test_next").outcomes["call"] == "passed"


WRITE_TO_ALL = """
    import os

    def test_it() -> None:
        for name in os.listdir("/proc/self/fd"):
            fd = int(name)
            try:
                if fd > 2:
                    os.write(fd, {data})
            except OSError:
                pass

    def test_next() -> None:
        pass
"""


@pytest.mark.parametrize(
    "data",
    [
        r"b'garbage\n'",
        r"b'{}\n'",
        r"b'[1, 2]\n'",
        r"b'\xff\xfe\n'",
        r"b'{\"type\": \"report\"}\n'",
        r"b'{\"type\": \"done\", \"item\": \"another\", \"stop\": null}\n'",
        r"b'{\"type\": \"ready\", \"protocol\": 1, \"python\": \"3\", \"pytest\": \"9\"}\n'",
        r"b'[' * 100_000 + b'\n'",
        r"b'no newline'",
    ],
)
def test_garbage_on_the_wire_is_a_death_of_the_worker(worker: Makes, data: Any) -> None:
    live = worker(WRITE_TO_ALL.format(data=data)).start()

    error = died(live)
    assert error.detail.startswith("The worker sent")


def test_an_endless_line_on_the_wire_is_a_death_of_the_worker(worker: Makes) -> None:
    data = "b'x' * 65536"
    live = worker(WRITE_TO_ALL.format(data=data).replace("os.write", "for _ in range(300): os.write")).start()

    assert "a line of more than 16777216 bytes" in died(live).detail


def test_a_report_about_another_item_is_a_death_of_the_worker(worker: Makes) -> None:
    live = worker(
        {
            "conftest.py": """
                def pytest_runtest_logreport(report):
                    report.__dict__["nodeid"] = "test_it.py::test_other"
                    if hasattr(report, "_id"):
                        report.__class__.nodeid = "test_it.py::test_other"

                def pytest_report_to_serializable(report):
                    data = report._to_json()
                    return {**data, "nodeid": "test_it.py::test_other", "$report_type": "TestReport"}
            """,
            "test_it.py": "def test_it(): pass",
        }
    ).start()

    assert "a report whose 'nodeid' cannot be 'test_it.py::test_other'" in died(live).detail


def test_the_module_is_started_by_its_path_too(tmp_path: Path) -> None:
    path = PACKAGE_HOME / "pytest_imagebuild" / "worker" / "__main__.py"
    process = subprocess.run(
        [sys.executable, str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=20,
        check=False,
        cwd=tmp_path,
    )

    assert process.stderr == b""
    assert process.returncode == 128 + signal.SIGKILL
    assert not list(tmp_path.iterdir())


def test_a_container_that_never_reads_is_given_up(worker: Makes) -> None:
    live = worker({"test_it.py": "", "big": "x" * 4_000_000})
    live.container.process.send_signal(signal.SIGSTOP)
    live.start(start_timeout=0.3)

    with pytest.raises(WorkerTimeout, match=r"The worker had not collected its tests within 0\.3 s"):
        next(live.session.run("test_it.py::test_it", None, 0, None))
