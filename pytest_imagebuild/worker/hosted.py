"""Fixtures that run on the host, for tests in containers: inside, one asks the controller for its value.

Runs in the container too: imports the standard library, and pytest where a fixture is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar, overload

__all__ = ["answer_with", "host_fixture"]

_Function = TypeVar("_Function", bound=Callable[..., Any])
_asks: Callable[[str], Any] | None = None


@overload
def host_fixture(function: _Function) -> _Function: ...
@overload
def host_fixture(
    *, scope: Literal["session", "package", "module", "class", "function"] = ..., name: str | None = ...
) -> Callable[[_Function], _Function]: ...
def host_fixture(function: Any = None, *, scope: Any = "function", name: str | None = None) -> Any:
    """Make a fixture that runs on the machine where pytest was started, wherever the test runs.

    `scope` and `name` are those of `pytest.fixture`. What it returns or yields is handed to tests in containers as JSON
    carries it: None, bool, int, float, str, lists and dicts of them. It is set up when the first test asks for it, and
    torn down on the host when its scope ends there. Where a test runs on the host, it is a fixture like any other.
    """
    import pytest  # noqa: PLC0415 - the package can be imported without it

    def make(function: Callable[..., Any]) -> Any:
        if _asks is None:
            return pytest.fixture(scope=scope, name=name)(function)
        asked_for, ask = name or function.__name__, _asks

        def value() -> Any:
            return ask(asked_for)

        value.__name__ = value.__qualname__ = function.__name__
        value.__doc__, value.__module__ = function.__doc__, function.__module__
        return pytest.fixture(scope=scope, name=name)(value)

    return make if function is None else make(function)


def answer_with(asks: Callable[[str], Any]) -> None:
    """Let fixtures that are made from now on get their values from `asks`, by their names."""
    global _asks  # noqa: PLW0603 - which side this process is on holds for all of it
    _asks = asks
