"""What a worker sends, from bytes to typed messages.

A container is not trusted: whatever is not exactly a message of the protocol is a WireError, and nothing
that a worker sends can exhaust the memory or the stack of the controller, or name code to import.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pytest_imagebuild.errors import WireError
from pytest_imagebuild.session.messages import (
    Asked,
    Collected,
    CollectError,
    Done,
    Exited,
    Failure,
    Finished,
    Interrupted,
    JUnitProperty,
    Measured,
    Message,
    Missing,
    Nodes,
    Output,
    Ready,
    Report,
    ShellEnded,
    Summary,
    Terminal,
    WarningSeen,
)
from pytest_imagebuild.worker.protocol import MAX_LINE, MAX_NESTING

if TYPE_CHECKING:
    from pytest_imagebuild.session.nodes import Node

__all__ = ["Parser"]

_T = TypeVar("_T")
_MAX_BRACKETS = 200_000
_MAX_NODES = 2_000_000
_MAX_LINE_NUMBER = 2**31
_MAX_NARGS = 100
_FLAG = re.compile(r"--?[A-Za-z0-9][\w.-]*")
_SHOWN = 200


class Parser:
    """Takes bytes as they come, gives messages. Keeps no more than one unfinished line."""

    def __init__(self) -> None:
        self._line = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that `data` completes. Raises WireError at the first that is none."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            line = data[start:end] if not self._line else bytes(self._line) + data[start:end]
            self._line.clear()
            start = end + 1
            yield _parse(line)
        self._line += data[start:]
        if len(self._line) > MAX_LINE:
            self._line.clear()
            msg = f"The worker sent a line of more than {MAX_LINE} bytes"
            raise WireError(msg)


def _parse(line: bytes) -> Message:
    if len(line) > MAX_LINE:
        msg = f"The worker sent a line of more than {MAX_LINE} bytes"
        raise WireError(msg)
    try:
        text = line.decode("ascii")
        _check_nesting(text)
        values = _decoder.decode(text)
    except (ValueError, RecursionError) as error:
        msg = f"The worker sent what is not a message: {line[:_SHOWN]!r} ({error})"
        raise WireError(msg) from None
    if not isinstance(values, dict):
        msg = f"The worker sent what is not a message: {line[:_SHOWN]!r}"
        raise WireError(msg)
    kind = values.get("type")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        msg = f"The worker sent a message of the unknown type {str(kind)[:_SHOWN]!r}"
        raise WireError(msg)
    return reader(_Fields(values))


def _check_nesting(text: str) -> None:
    brackets = text.count("[") + text.count("{")
    if brackets <= MAX_NESTING:
        return
    # Without its escaped characters, every other part of the text between quotes is a string.
    outside = text.replace("\\\\", "").replace('\\"', "").split('"')[::2]
    depth = seen = 0
    for part in outside:
        for bracket in _BRACKET.findall(part):
            depth += 1 if bracket in "[{" else -1
            seen += 1
            if depth > MAX_NESTING or seen > _MAX_BRACKETS:
                msg = f"nested deeper than {MAX_NESTING}, or more than {_MAX_BRACKETS} brackets"
                raise ValueError(msg)


_BRACKET = re.compile(r"[\[\]{}]")


def _refuse_constant(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


class _Fields:
    """The values of one message, checked as they are taken."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def take(self, name: str, expected: type[_T]) -> _T:
        """Return the value of `name`; a bool is no int."""
        value = self._values.get(name)
        if type(value) is not expected:
            msg = (
                f"The worker sent a {self._values.get('type')!r} message whose {name!r} is "
                f"{str(value)[:_SHOWN]!r}, not of type {expected.__name__}"
            )
            raise WireError(msg)
        return value

    def optional(self, name: str, expected: type[_T]) -> _T | None:
        """Return the value of `name`, or None for null."""
        return None if self._values.get(name) is None else self.take(name, expected)

    def value(self, name: str) -> object:
        """Return the value of `name`, whatever it is."""
        return self._values.get(name)

    def either(self, name: str, *expected: type[_T]) -> _T | None:
        """Return the value of `name`, which has one of these types, or None for null."""
        kinds = [kind for kind in expected if type(self._values.get(name)) is kind]
        return self.optional(name, kinds[0] if kinds else expected[0])

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the value of `name`, a list of texts; () where there is none."""
        values = self.take(name, list) if name in self._values else []
        if not all(type(value) is str for value in values):
            msg = f"The worker sent a {self._values.get('type')!r} message whose {name!r} are no texts"
            raise WireError(msg)
        return tuple(values)

    def choose(self, name: str, *values: str) -> str:
        """Return the value of `name`, one of `values`."""
        value = self.take(name, str)
        if value not in values:
            msg = f"The worker sent a {self._values.get('type')!r} message whose {name!r} is {value[:_SHOWN]!r}"
            raise WireError(msg)
        return value

    def objects(self, name: str) -> list[_Fields]:
        """Return the value of `name`, a list of objects; an empty one where there is none."""
        values = self.take(name, list) if name in self._values else []
        if not all(isinstance(value, dict) for value in values):
            msg = f"The worker sent a {self._values.get('type')!r} message whose {name!r} are no objects"
            raise WireError(msg)
        return [_Fields(value) for value in values]


def _read_ready(fields: _Fields) -> Message:
    return Ready(
        protocol=fields.take("protocol", int),
        python=fields.take("python", str),
        pytest=fields.take("pytest", str),
        options=tuple(_read_option(option) for option in fields.objects("options")),
        ini_keys=fields.texts("ini_keys"),
    )


def _read_option(fields: _Fields) -> Mapping[str, Any]:
    nargs = fields.either("nargs", int, str)
    # argparse makes a pattern of so many letters, and knows no option with none.
    if nargs not in ("?", "*", "+") and not (isinstance(nargs, int) and 0 < nargs <= _MAX_NARGS):
        nargs = None
    return {
        "flags": [flag for flag in fields.texts("flags") if _FLAG.fullmatch(flag)],
        "dest": fields.take("dest", str),
        "action": fields.choose("action", "store", "store_const", "append", "count"),
        "nargs": nargs,
        "const": fields.value("const"),
    }


def _read_nodes(fields: _Fields) -> Message:
    return Nodes(nodes=tuple(_read_node(node) for node in fields.objects("nodes")))


def _read_node(fields: _Fields) -> Node:
    index, parent = fields.take("index", int), fields.optional("parent", int)
    role = fields.choose("role", "directory", "file", "collector", "item")
    if not 0 <= index < _MAX_NODES or not (parent is None or 0 <= parent < index):
        msg = f"The worker sent a node {index} whose parent is {parent}"
        raise WireError(msg)
    nodeid = fields.take("nodeid", str)
    if "::()" in nodeid:
        msg = f"The worker sent a node whose id cannot be {nodeid[:_SHOWN]!r}"
        raise WireError(msg)
    location = fields.optional("location", list)
    if location is not None and [type(part) for part in location] not in ([str, int, str], [str, type(None), str]):
        msg = f"The worker sent a node at a location that is none: {str(location)[:_SHOWN]}"
        raise WireError(msg)
    if (role == "item") != (location is not None):
        msg = f"The worker sent a node of the role {role!r} with the location {str(location)[:_SHOWN]}"
        raise WireError(msg)
    from pytest_imagebuild.session.nodes import Node  # noqa: PLC0415 - few workers describe what they collect

    return Node(
        index=index,
        parent=parent,
        role=role,
        kind=fields.take("kind", str),
        nodeid=nodeid,
        name=fields.take("name", str),
        path=fields.take("path", str),
        markers=tuple(_read_marker(marker) for marker in fields.take("markers", list)),
        keywords=fields.texts("keywords"),
        extra_keywords=fields.texts("extra_keywords"),
        doc=fields.optional("doc", str),
        location=None if location is None else (location[0], location[1], location[2]),
        report=fields.optional("report", dict),
        order=fields.optional("order", int),
        deselected=bool(fields.optional("deselected", bool)),
    )


def _read_marker(value: object) -> tuple[str, tuple[Any, ...], Mapping[str, Any]]:
    match value:
        case [str(name), list(arguments), dict(named)]:
            return name, tuple(arguments), named
    msg = f"The worker sent a marker that is none: {str(value)[:_SHOWN]}"
    raise WireError(msg)


def _read_collected(fields: _Fields) -> Message:
    errors = tuple(
        CollectError(
            nodeid=error.take("nodeid", str),
            outcome=error.choose("outcome", "failed", "skipped"),
            longrepr=error.take("longrepr", str),
        )
        for error in fields.objects("errors")
    )
    isolates = bool(fields.optional("isolates", bool))
    return Collected(items=fields.take("items", int), errors=errors, isolates=isolates, header=fields.texts("header"))


def _read_missing(fields: _Fields) -> Message:
    return Missing(
        item=fields.take("item", str),
        outcome=fields.choose("outcome", "failed", "skipped"),
        reason=fields.take("reason", str),
        waits=bool(fields.optional("waits", bool)),
    )


def _read_report(fields: _Fields) -> Message:
    return Report(item=fields.take("item", str), data=fields.take("data", dict))


def _read_warning(fields: _Fields) -> Message:
    location = fields.optional("location", list)
    if location is not None and [type(part) for part in location] != [str, int, str]:
        msg = f"The worker sent a warning from a location that is none: {str(location)[:_SHOWN]}"
        raise WireError(msg)
    return WarningSeen(
        when=fields.choose("when", "config", "collect", "runtest"),
        nodeid=fields.take("nodeid", str),
        category=fields.take("category", str),
        module=fields.take("module", str),
        message=fields.take("message", str),
        filename=fields.take("filename", str),
        lineno=fields.take("lineno", int),
        line=fields.optional("line", str),
        location=None if location is None else (location[0], location[1], location[2]),
    )


def _read_junit(fields: _Fields) -> Message:
    return JUnitProperty(
        item=fields.optional("item", str), name=fields.take("name", str), value=fields.take("value", str)
    )


def _read_coverage(fields: _Fields) -> Message:
    arcs, files, tracers = fields.take("arcs", bool), fields.take("files", dict), fields.take("tracers", dict)
    read = _arcs if arcs else _lines
    if not all(type(tracer) is str for tracer in tracers.values()):
        msg = f"The worker sent coverage whose tracers are {str(tracers)[:_SHOWN]}"
        raise WireError(msg)
    return Measured(
        context=fields.take("context", str),
        arcs=arcs,
        files={file: read(lines) for file, lines in files.items()},
        tracers=tracers,
    )


def _lines(value: object) -> list[int]:
    if isinstance(value, list) and all(type(line) is int and abs(line) < _MAX_LINE_NUMBER for line in value):
        return value
    msg = f"The worker sent coverage of the lines {str(value)[:_SHOWN]}"
    raise WireError(msg)


def _arcs(value: object) -> list[tuple[int, int]]:
    lines = _lines(value)
    if len(lines) % 2 == 0:
        return list(zip(lines[::2], lines[1::2], strict=True))
    msg = f"The worker sent coverage of the arcs {str(value)[:_SHOWN]}"
    raise WireError(msg)


def _read_terminal(fields: _Fields) -> Message:
    return Terminal(open=fields.take("open", bool), shown=fields.take("shown", bool))


def _read_done(fields: _Fields) -> Message:
    waits = bool(fields.optional("waits", bool))
    return Done(item=fields.take("item", str), stop=fields.optional("stop", str), waits=waits)


def _read_interrupted(fields: _Fields) -> Message:
    return Interrupted(
        kind=fields.choose("kind", "exit", "keyboard"),
        reason=fields.take("reason", str),
        returncode=fields.optional("returncode", int),
    )


def _read_output(fields: _Fields) -> Message:
    return Output(stream=fields.choose("stream", "stdout", "stderr", "terminal"), data=fields.take("data", str))


def _read_failure(fields: _Fields) -> Message:
    return Failure(text=fields.take("text", str))


def _read_finished(_fields: _Fields) -> Message:
    return Finished()


def _read_exited(fields: _Fields) -> Message:
    return Exited(
        code=fields.optional("code", int), signal=fields.optional("signal", int), oom=fields.take("oom", bool)
    )


_READERS: Mapping[str, Callable[[_Fields], Message]] = {
    "ready": _read_ready,
    "nodes": _read_nodes,
    "collected": _read_collected,
    "missing": _read_missing,
    "report": _read_report,
    "warning": _read_warning,
    "junit": _read_junit,
    "coverage": _read_coverage,
    "summary": lambda fields: Summary(text=fields.take("text", str)),
    "asked": lambda fields: Asked(name=fields.take("name", str)),
    "terminal": _read_terminal,
    "shell": lambda fields: ShellEnded(code=fields.take("code", int)),
    "done": _read_done,
    "interrupted": _read_interrupted,
    "output": _read_output,
    "error": _read_failure,
    "finished": _read_finished,
    "exited": _read_exited,
}
