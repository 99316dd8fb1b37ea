"""Debuggers in the container, on the user's terminal: `breakpoint()`, `--pdb`, `--trace`.

Runs in the container: imports the standard library and pytest only.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from _pytest.debugging import pytestPDB

from pytest_imagebuild.worker.interactive import Interactive

__all__ = ["Debugging"]


class Debugging:
    """A plugin that borrows the terminal before pytest's debugger begins to print, and gives it back when it ends."""

    def __init__(self, interactive: Interactive) -> None:
        self._interactive = interactive

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Be asked before each beginning: by the one way on which all of pytest's debuggers start."""
        debugger: Any = pytestPDB
        begin = debugger._init_pdb  # noqa: SLF001 - the hook `pytest_enter_pdb` comes when half is printed

        def begin_on_terminal(method: str, *args: object, **named: object) -> Any:
            __tracebackhide__ = True
            with _after_suspension(config, self._interactive.open):
                return begin(method, *args, **named)

        def undo() -> None:
            debugger._init_pdb = begin  # noqa: SLF001

        debugger._init_pdb = begin_on_terminal  # noqa: SLF001
        config.add_cleanup(undo)

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_exception_interact(self, node: pytest.Item | pytest.Collector) -> Generator[None, Any, None]:
        """With `--pdb`, show the failure on the terminal."""
        if not node.config.getoption("usepdb"):
            yield
            return
        capture = node.config.pluginmanager.get_plugin("capturemanager")
        if capture is not None:
            capture.suspend_global_capture(in_=True)
        self._interactive.open(shown=True)
        yield
        self._interactive.close()

    def pytest_leave_pdb(self) -> None:
        """Give the terminal back when the debugger lets the test go on."""
        self._interactive.close()


@contextmanager
def _after_suspension(config: pytest.Config, call: Callable[[], None]) -> Iterator[None]:
    """Let `call` come right after capture is suspended. To suspend it before would not do: once only is right."""
    capture = config.pluginmanager.get_plugin("capturemanager")
    if capture is None:
        call()
        yield
        return
    suspend = capture.suspend

    def suspend_and_call(**named: bool) -> None:
        suspend(**named)
        call()

    capture.suspend = suspend_and_call
    try:
        yield
    finally:
        capture.suspend = suspend
