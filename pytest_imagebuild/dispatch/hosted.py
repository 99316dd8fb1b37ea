"""Values of host fixtures for tests that run inside: set up here, beside the item, and torn down as ever."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any, NoReturn

import pytest
from _pytest import fixtures

from pytest_imagebuild.dispatch.governed.proxy import Proxy
from pytest_imagebuild.worker.protocol import MAX_LINE

__all__ = ["answer"]

_ROOM = 1024
_HINT = (
    "A host fixture must be known on the host: define it in a conftest file, or in a test file, that can be imported "
    "here."
)
_asking: pytest.StashKey[_Asking] = pytest.StashKey()


def answer(item: pytest.Item, name: str) -> dict[str, object]:
    """Return the value of a fixture as the worker of `item` is told it, or why there is none."""
    asking = _asking_for(item)
    if refusal := _refusal(item, asking, name):
        return {"error": refusal}
    capture = item.config.pluginmanager.get_plugin("capturemanager")
    with capture.item_capture("setup", asking) if capture else nullcontext():
        call = pytest.CallInfo.from_call(
            lambda: asking.value(name), when="setup", reraise=(pytest.exit.Exception, KeyboardInterrupt)
        )
    if call.excinfo is None:
        return _told(name, call.result)
    if isinstance(call.excinfo.value, pytest.skip.Exception):
        return {"skipped": str(call.excinfo.value)}
    if isinstance(missing := call.excinfo.value, fixtures.FixtureLookupError):
        text = f"fixture {missing.argname!r} not found\n{_HINT}"
    else:
        text = str(asking._repr_failure_py(call.excinfo, style="long"))  # noqa: SLF001 - as pytest shows what failed in a fixture
    return {"error": f"The fixture {name!r} failed on the host.\n{text}"}


def _told(name: str, value: object) -> dict[str, object]:
    try:
        size = len(json.dumps(value, allow_nan=False))
        same = size < MAX_LINE - _ROOM and json.loads(json.dumps(value)) == value
    except (TypeError, ValueError, RecursionError):
        same = False
    if same:
        return {"value": value}
    return {
        "error": f"The fixture {name!r} gave {type(value).__name__} {str(value)[:200]!r} on the host, which cannot be "
        f"handed into a container. Let it give what JSON carries unchanged, below {MAX_LINE >> 20} MiB: None, bool, "
        "int, float, str, and lists and dicts (with str keys) of them."
    }


def _asking_for(item: pytest.Item) -> _Asking:
    asking = item.stash.get(_asking, None)
    if asking is None:
        made: _Asking = _Asking.from_parent(item.parent or item.session, name=item.name)
        asking = item.stash[_asking] = made
    return asking


def _refusal(item: pytest.Item, asking: _Asking, name: str) -> str:
    """Return why a stand-in cannot have a fixture: no module and no class of it are here, by which it could end."""
    if not isinstance(item, Proxy):
        return ""
    found = item.session._fixturemanager.getfixturedefs(name, asking)  # noqa: SLF001 - pytest offers no look-up
    scope = found[-1].scope if found else ""
    if scope not in ("module", "class"):
        return ""
    return (
        f"The fixture {name!r} has the scope {scope!r}, which a test that has its image from --image or the ini file "
        'cannot have on the host. Use the scope "session", "package" or "function".'
    )


def _asks_nothing() -> None:
    """Stand for the function of an item. pytest 7 wants one."""


class _Asking(pytest.Item):
    """Stands beside an item that runs inside, and asks for fixtures in its name."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        make: Any = getattr(fixtures, "TopRequest", None) or fixtures.FixtureRequest
        self.funcargs: dict[str, object] = {}
        self._fixtureinfo = self.session._fixturemanager.getfixtureinfo(node=self, func=_asks_nothing, cls=None)  # noqa: SLF001 - as doctests do
        self.fixturenames = self._fixtureinfo.names_closure
        self._asks = make(self, _ispytest=True)

    def value(self, name: str) -> object:
        """Return the value of a fixture, which is set up if it is not yet."""
        state = self.session._setupstate  # noqa: SLF001 - what pytest_runtest_setup does
        if self not in state.stack:
            state.setup(self)
        return self._asks.getfixturevalue(name)

    def runtest(self) -> NoReturn:
        """Never called: the item itself runs inside."""
        raise NotImplementedError
