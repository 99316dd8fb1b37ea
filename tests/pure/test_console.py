"""The user's terminal shows what a worker sends for it only while the worker has it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pytest_imagebuild.dispatch.console import Console
from pytest_imagebuild.session.messages import Done, Output, Terminal
from pytest_imagebuild.session.session import Session


class _Asking:
    """A session, as far as a console asks it."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def lend_terminal(self, **terminal: object) -> None:
        self.told.append(terminal)

    def refuse_terminal(self) -> None:
        self.told.append("refused")

    def type(self, keys: bytes) -> None:
        self.told.append(keys)


@pytest.fixture
def console(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Console:
    """Return a console of a run without a terminal."""
    monkeypatch.setattr("os.isatty", lambda _: False)
    config = pytester.parseconfig("-p", "no:capture")
    config.pluginmanager.unregister(name="capturemanager")
    return Console(config)


ESCAPE = Output(stream="terminal", data="\x1b[2J")


def test_what_nobody_asked_for_is_not_shown(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    assert console.hears(cast("Session", _Asking()), ESCAPE)
    assert capsys.readouterr().out == ""


def test_what_another_worker_sends_is_not_shown(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    session: Any = _Asking()
    console.hears(session, Terminal(open=True, shown=False))
    console.hears(cast("Session", _Asking()), ESCAPE)
    assert capsys.readouterr().out == ""
    console.hears(session, ESCAPE)
    assert capsys.readouterr().out == ESCAPE.data
    console.take_back()
    console.hears(session, ESCAPE)
    assert capsys.readouterr().out == ""


def test_the_worker_of_an_xdist_run_has_no_terminal_to_lend(console: Console) -> None:
    console._config.workerinput = {}  # type: ignore[attr-defined]
    session: Any = _Asking()
    assert console.hears(session, Terminal(open=True, shown=False))
    assert session.told == ["refused"]


def test_other_messages_are_for_others(console: Console) -> None:
    assert not console.hears(cast("Session", _Asking()), Done(item="a", stop=None))
    assert not console.hears(cast("Session", _Asking()), Output(stream="stdout", data="text"))
