"""A worker that means harm: it says whatever it likes, whatever it is asked."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

from pytest_imagebuild.engines.protocol import ExitStatus
from pytest_imagebuild.worker.protocol import encode

__all__ = ["ITEMS", "HostileContainer", "conversations", "honest"]

FILE = "test_it.py"
ITEMS = (f"{FILE}::test_one", f"{FILE}::test_two")


class HostileContainer:
    """A container whose main process sends these pieces, one a read, and ends."""

    id = "hostile"

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = list(pieces)
        self.channel = self
        self.stopped = False

    def send(self, data: bytes) -> None:
        """Take no notice."""

    def receive(self, timeout: float | None) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def error_output(self) -> bytes:
        return b"last \x1b[31mwords\xff"

    def close(self) -> None:
        """Take no notice."""

    def wait(self, timeout: float) -> ExitStatus:
        return ExitStatus(code=137, out_of_memory=True)

    def stop(self) -> None:
        self.stopped = True


def _report(item: str, when: str, **changes: object) -> dict[str, Any]:
    data = {
        "nodeid": item, "location": [FILE, 1, item], "keywords": {"t": 1}, "outcome": "passed", "longrepr": None,
        "when": when, "sections": [["Captured stdout call", "x"]], "duration": 0.5, "start": 1.5, "stop": 2,
        "user_properties": [["name", [1]]], "$report_type": "TestReport",
    }  # fmt: skip
    return {"type": "report", "item": item, "data": {**data, **changes}}


_TRACEBACK = {
    "reprentries": [
        {
            "type": "ReprEntry",
            "data": {
                "lines": ["    assert x", "E   assert 1"],
                "reprfuncargs": {"args": [["x", "1"]]},
                "reprlocals": {"lines": ["x = 1"]},
                "reprfileloc": {"path": FILE, "lineno": 2, "message": "AssertionError"},
                "style": "long",
            },
        }
    ],
    "extraline": None,
    "style": "long",
}
_CRASH = {"path": FILE, "lineno": 2, "message": "assert 1"}
_FAILURE = {
    "reprcrash": _CRASH,
    "reprtraceback": _TRACEBACK,
    "sections": [["a", "b", "-"]],
    "chain": [[_TRACEBACK, _CRASH, None]],
}
_WARNING = {
    "type": "warning", "when": "runtest", "nodeid": ITEMS[0], "category": "UserWarning", "module": "builtins",
    "message": "m", "filename": FILE, "lineno": 3, "line": None, "location": [FILE, 3, "t"],
}  # fmt: skip


def honest() -> list[dict[str, Any]]:
    """Return what a worker says of two tests when all is well: one of them fails."""
    one, two = ITEMS
    return [
        {"type": "ready", "protocol": 1, "python": "3.13.5", "pytest": "9.2.0"},
        {"type": "collected", "items": 2, "errors": [], "header": ["a plugin: of the image"]},
        _report(one, "setup"),
        {"type": "output", "stream": "stdout", "data": "printed\n"},
        _WARNING,
        _report(one, "call"),
        {"type": "junit", "item": one, "name": "a", "value": "b"},
        _report(one, "teardown"),
        {"type": "done", "item": one, "stop": None},
        _report(two, "setup"),
        _report(two, "call", outcome="failed", longrepr=_FAILURE),
        _report(two, "teardown"),
        {"type": "done", "item": two, "stop": None},
        {"type": "summary", "text": "said at the end\n"},
        {"type": "finished"},
        {"type": "exited", "code": 0, "signal": None, "oom": False},
    ]


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.sampled_from([*ITEMS, "passed", "failed", "skipped", "rerun", "call", "\x1b[2J", "a\x00b", "..", "/", "\ud800"]),
)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
_MORE = st.sampled_from(
    [
        {"type": "interrupted", "kind": "exit", "reason": "enough", "returncode": 5},
        {"type": "interrupted", "kind": "keyboard", "reason": "!", "returncode": None},
        {"type": "missing", "item": ITEMS[0], "outcome": "skipped", "reason": "gone"},
        {"type": "error", "text": "pytest broke"},
        {"type": "asked", "name": "tmp_path"},
        {"type": "asked", "name": "no_such_fixture"},
        {"type": "terminal", "open": False, "shown": True},
        {"type": "output", "stream": "terminal", "data": "\x1b[2J"},
        {"type": "coverage", "context": "c", "arcs": False, "files": {"/etc/passwd": [1]}, "tracers": {}},
        {"type": "nodes", "nodes": []},
        {"type": "shell", "code": 1},
        {"type": "exited", "code": None, "signal": 9, "oom": True},
        {"type": "bye"},
    ]
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the ways to everything in a message but the whole."""
    found = []
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        found.append((*path, key))
        if isinstance(inner, (dict, list)):
            found += _places(inner, (*path, key))
    return found


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """Draw what a worker sends: an honest conversation with some harm done to it."""
    messages: list[Any] = honest()
    for _ in range(draw(st.integers(1, 4))):
        number = draw(st.integers(0, len(messages) - 1))
        match draw(st.sampled_from(["change", "change", "change", "drop", "repeat", "swap", "insert", "bytes"])):
            case "change" if isinstance(messages[number], dict):
                message = messages[number] = copy.deepcopy(messages[number])
                *way, last = draw(st.sampled_from(_places(message)))
                for key in way:
                    message = message[key]
                message[last] = draw(_VALUES)
            case "drop" if len(messages) > 1:
                del messages[number]
            case "repeat":
                messages.insert(number, messages[number])
            case "swap":
                messages[number], messages[0] = messages[0], messages[number]
            case "insert":
                messages.insert(number, draw(_MORE))
            case _:
                messages.insert(number, draw(st.binary(max_size=40)))
    lines = [message if isinstance(message, bytes) else _encoded(message) for message in messages]
    data = b"".join(lines)
    cut = draw(st.integers(0, len(data)))
    return [piece for piece in (data[:cut], data[cut:]) if piece]


def _encoded(message: dict[str, Any]) -> bytes:
    # Not by the worker's encoder alone, which puts right what is wrong.
    try:
        return json.dumps(message).encode("ascii") + b"\n"
    except ValueError:
        return encode(message)
