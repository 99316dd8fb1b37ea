"""The user's terminal, lent to a worker while a debugger or a shell runs in it."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

import pytest

from pytest_imagebuild.session.messages import Message, Output, Terminal
from pytest_imagebuild.session.session import Session

__all__ = ["Console"]

_CHUNK = 4096
_STDIN, _STDOUT = 0, 1
_RESIZED = b"s"


class Console:
    """Lends the terminal of one run of pytest.

    Where standard input and output are terminals, what is typed goes to the worker key by key, Ctrl-C too, and its own
    terminal does the rest. Else lines go there as they come, and its output stays what it is.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._restore: list[Callable[[], object]] = []
        self._session: Session | None = None
        self._is_whole = False

    def take_back(self) -> None:
        """Have it again, as it was before."""
        while self._restore:
            self._restore.pop()()
        self._session = None

    def hears(self, session: Session, message: Message) -> bool:
        """Do what a message is for the terminal. Returns whether it is for the terminal alone."""
        match message:
            case Terminal(open=True):
                self._lend(session)
            case Terminal():
                self.take_back()
            case Output(stream="terminal", data=text) if session is self._session:
                _write(sys.stdout, text)
            case Output(stream=stream, data=text) if session is self._session:
                # Nobody else does that while the terminal takes what it is given as it is.
                shown = text.replace("\n", "\r\n") if self._is_whole else text
                _write(sys.stderr if stream == "stderr" else sys.stdout, shown)
            case Output(stream="terminal"):
                pass  # nobody has asked for it
            case _:
                return False
        return True

    def _lend(self, session: Session) -> None:
        """Answer a worker that asks for it. The worker of an xdist run has none to lend."""
        if hasattr(self._config, "workerinput"):
            session.refuse_terminal()
            return
        is_new = self._session is None
        if is_new:
            self._session = session
            self._uncapture()
            self._is_whole = os.isatty(_STDIN) and os.isatty(_STDOUT)
        session.lend_terminal(whole=self._is_whole, size=_size(of_terminal=self._is_whole), kind=os.environ.get("TERM"))
        if is_new:
            # Not before: what is typed is for what the worker has been lent.
            self._connect(session)

    def _uncapture(self) -> None:
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        if capture is None:
            return
        capture.suspend_global_capture(in_=True)

        def capture_again() -> None:
            capture.resume_global_capture()
            capture.suspend_global_capture()

        self._restore.append(capture_again)

    def _connect(self, session: Session) -> None:
        wake, waker = os.pipe()
        reader = threading.Thread(target=_forward, args=(session, wake), name="imagebuild-keys", daemon=True)

        def disconnect() -> None:
            os.close(waker)
            reader.join()
            os.close(wake)

        reader.start()
        self._restore.append(disconnect)
        if self._is_whole:
            self._raw()
            self._watch_size(waker)

    def _raw(self) -> None:
        import termios  # noqa: PLC0415 - not everywhere
        import tty  # noqa: PLC0415

        before = termios.tcgetattr(_STDIN)
        self._restore.append(lambda: termios.tcsetattr(_STDIN, termios.TCSADRAIN, before))
        tty.setraw(_STDIN, termios.TCSADRAIN)

    def _watch_size(self, waker: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        # Not sent from here: the signal may come while something else is being sent.
        before: Any = signal.signal(signal.SIGWINCH, lambda _number, _frame: os.write(waker, _RESIZED))
        self._restore.append(lambda: signal.signal(signal.SIGWINCH, before or signal.SIG_DFL))


def _forward(session: Session, wake: int) -> None:
    """Send what is typed until the terminal is taken back; its size too, when it has changed."""
    sources = [_STDIN, wake]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if wake in ready:
            if not os.read(wake, _CHUNK):
                return
            session.resize_terminal(_size(of_terminal=True))
        elif _STDIN in ready:
            data = b""
            with suppress(OSError):
                data = os.read(_STDIN, _CHUNK)
            session.type(data)
            if not data:
                sources.remove(_STDIN)


def _write(target: TextIO, text: str) -> None:
    encoding = getattr(target, "encoding", None) or "utf-8"
    target.write(text.encode(encoding, "backslashreplace").decode(encoding))
    target.flush()


def _size(*, of_terminal: bool) -> tuple[int, int]:
    """Return rows and columns: those that the terminal has, or those that the user says (`COLUMNS`)."""
    size = shutil.get_terminal_size(fallback=(80, 24))
    if of_terminal:
        with suppress(OSError):
            size = os.get_terminal_size(_STDIN)
    return (size.lines, size.columns)
