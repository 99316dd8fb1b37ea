"""A worker borrows the controller's terminal for a debugger, and lives without one."""

from __future__ import annotations

import os
import time
import tty
from collections.abc import Callable, Iterable

import pytest
from live_worker import Makes, Run, Worker

from pytest_imagebuild.session.messages import Message, Output, ShellEnded, Terminal
from pytest_imagebuild.session.session import WorkerTimeout
from pytest_imagebuild.worker.streams import read_available

STOPS = """
    import os

    def test_it():
        value = 41
        breakpoint()
        value += 1
        os.write(2, b"past the capture")
        assert not os.isatty(1)
        assert value == 42
    """


def _played(worker: Worker, messages: Iterable[Message], lend: Callable[[], None], keys: bytes) -> list[Message]:
    """Do what a controller does: lend the terminal, then type."""
    seen = []
    for message in messages:
        if isinstance(message, Terminal) and message.open:
            lend()
            worker.session.type(keys)
        seen.append(message)
    return seen


def _debugged(worker: Worker, *, whole: bool, keys: bytes, timeout: float = 20) -> Run:
    messages = worker.session.run("test_it.py::test_it", None, 0, timeout)
    lend = lambda: worker.session.lend_terminal(whole=whole, size=(33, 99), kind="xterm")  # noqa: E731
    return Run(_played(worker, messages, lend, keys))


def _output(messages: Iterable[Message], stream: str) -> str:
    return "".join(one.data for one in messages if isinstance(one, Output) and one.stream == stream)


def test_a_debugger_has_a_terminal_of_the_size_and_the_kind_of_the_users(worker: Makes) -> None:
    keys = b"os.get_terminal_size(), os.environ['TERM'], os.isatty(0), os.isatty(2)\rc\r"
    run = _debugged(worker(STOPS).start(), whole=True, keys=keys)
    assert "(os.terminal_size(columns=99, lines=33), 'xterm', True, True)" in _output(run.messages, "terminal")
    assert run.outcomes == {"setup": "passed", "call": "passed", "teardown": "passed"}


def test_what_comes_after_the_debugger_is_no_terminals(worker: Makes) -> None:
    run = _debugged(worker(STOPS).start(options={"capture": "no"}), whole=True, keys=b"c\r")
    assert run.outcomes["call"] == "passed"
    assert "past the capture" in _output(run.messages, "stderr")
    assert "past the capture" not in _output(run.messages, "terminal")
    assert [message.open for message in run.messages if isinstance(message, Terminal)] == [True, False]


def test_lines_are_enough_where_there_is_no_terminal(worker: Makes) -> None:
    run = _debugged(worker(STOPS).start(), whole=False, keys=b"p value, os.environ['COLUMNS']\nc\n")
    assert "(41, '99')" in _output(run.messages, "stdout")
    assert not _output(run.messages, "terminal")
    assert run.outcomes["call"] == "passed"


def test_the_end_of_the_input_ends_the_debugger(worker: Makes) -> None:
    run = _debugged(worker(STOPS).start(), whole=False, keys=b"")
    assert run.outcomes["call"] == "failed"
    assert "BdbQuit" in run.failure


def test_a_controller_without_a_terminal_says_so(worker: Makes) -> None:
    started = worker(STOPS).start()
    messages = started.session.run("test_it.py::test_it", None, 0, 20)
    run = Run(_played(started, messages, started.session.refuse_terminal, b"c\n"))
    assert run.outcomes["call"] == "failed"
    assert "BdbQuit" in run.failure


def test_a_failure_says_that_it_is_shown(worker: Makes) -> None:
    started = worker("def test_it(): assert 3 == 4").start(options={"usepdb": True})
    run = _debugged(started, whole=True, keys=b"c\r")
    assert [message.shown for message in run.messages if isinstance(message, Terminal) and message.open] == [
        True,
        False,
    ]
    shown = _output(run.messages, "terminal")
    assert "assert 3 == 4" in shown
    assert "PDB post_mortem (IO-capturing turned off)" in shown


def test_the_time_in_a_debugger_does_not_count_but_that_after_it_does(worker: Makes) -> None:
    started = worker("import time\n\ndef test_it():\n    breakpoint()\n    time.sleep(60)").start()

    def lend_late() -> None:
        time.sleep(2)
        started.session.lend_terminal(whole=True, size=(24, 80), kind=None)

    begun = time.monotonic()
    with pytest.raises(WorkerTimeout):
        _played(started, started.session.run("test_it.py::test_it", None, 0, 1.5), lend_late, b"c\r")
    assert 2.5 < time.monotonic() - begun < 20


def test_a_shell_runs_on_the_terminal_and_tells_its_status(worker: Makes) -> None:
    started = worker("import os").start()
    lend = lambda: started.session.lend_terminal(whole=True, size=(33, 99), kind="xterm")  # noqa: E731
    seen = _played(started, started.session.shell(), lend, b"stty size; exit 7\r")
    assert "33 99" in _output(seen, "terminal")
    assert seen[-1] == ShellEnded(code=7)
    started.finish()


def test_what_is_in_a_terminal_is_read_whole() -> None:
    near, far = os.openpty()
    try:
        tty.setraw(far)
        os.set_blocking(near, False)
        # The kernel gives at most 4,095 of them at a time.
        written = os.write(far, b"x" * 9000)
        assert written > 4095
        assert read_available(near, 1 << 20) == b"x" * written
        assert read_available(near, 1 << 20) == b""
    finally:
        os.close(near)
        os.close(far)
