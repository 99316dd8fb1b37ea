"""Conftest files of folders that have an image: what acts on tests acts inside, what acts on the whole run here."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pytest_imagebuild.dispatch.governed.places import Places
from pytest_imagebuild.dispatch.governed.proxy import Proxy

__all__ = ["guard", "tolerate"]


def tolerate(manager: pytest.PytestPluginManager, places: Places) -> None:
    """Let conftest files be empty here that can be imported inside only: inside, an error in one is told."""
    load = manager._importconftest  # noqa: SLF001 - there is no hook for it

    def load_what_can_be(path: Path, *arguments: Any, **named: Any) -> ModuleType:
        if not places.of(Path(path)):
            return load(path, *arguments, **named)
        try:
            return load(path, *arguments, **named)
        except Exception:  # noqa: BLE001 - whatever it is, inside it may be otherwise
            registered = manager.get_plugin(str(path))
            empty = ModuleType("conftest")
            empty.__file__ = str(path)
            return registered if isinstance(registered, ModuleType) else empty

    manager._importconftest = load_what_can_be  # type: ignore[assignment]  # noqa: SLF001


def guard(plugin: object, manager: pytest.PytestPluginManager, places: Places) -> None:
    """Keep stand-ins from the hooks of a conftest file: the tests that they stand for have been through them."""
    file = getattr(plugin, "__file__", None)
    if not isinstance(plugin, ModuleType) or not file or Path(file).name != "conftest.py" or not places.of(Path(file)):
        return
    for hook in manager.get_hookcallers(plugin) or ():
        for implementation in hook.get_hookimpls():
            if implementation.plugin is plugin:
                implementation.function = _guarded(implementation, hook.name)  # type: ignore[misc]


def _guarded(implementation: Any, hook: str) -> Callable[..., Any]:
    function, names = implementation.function, list(implementation.argnames)
    is_wrapper = implementation.hookwrapper or getattr(implementation, "wrapper", False)

    def wrapper(*arguments: Any) -> Generator[Any, Any, Any]:
        if _concerns_stand_ins(arguments):
            return (yield)
        return (yield from function(*arguments))

    def plain(*arguments: Any) -> Any:
        return None if _concerns_stand_ins(arguments) else function(*arguments)

    def on_items(*arguments: Any) -> Any:
        place = names.index("items")
        items, real = arguments[place], _without_stand_ins(arguments[place])
        if not real:
            return
        function(*arguments[:place], real, *arguments[place + 1 :])
        left = iter(real)
        items[:] = [item if isinstance(item, Proxy) else next(left, None) for item in items]
        items[:] = [item for item in items if item is not None] + list(left)

    if hook == "pytest_collection_modifyitems" and "items" in names and not is_wrapper:
        return on_items
    return wrapper if is_wrapper else plain


def _concerns_stand_ins(arguments: Sequence[object]) -> bool:
    return any(
        isinstance(each, Proxy)
        for argument in arguments
        for each in (argument if isinstance(argument, list) else (argument,))
    )


def _without_stand_ins(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    return [item for item in items if not isinstance(item, Proxy)]
