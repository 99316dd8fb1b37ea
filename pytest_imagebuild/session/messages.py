"""What a worker tells, as typed values: tuples, of which each run makes twenty kinds before its first test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pytest_imagebuild.session.nodes import Node

__all__ = [
    "Asked",
    "CollectError",
    "Collected",
    "Done",
    "Exited",
    "Failure",
    "Finished",
    "Interrupted",
    "JUnitProperty",
    "Measured",
    "Message",
    "Missing",
    "Nodes",
    "Output",
    "Ready",
    "Report",
    "ShellEnded",
    "Summary",
    "Terminal",
    "WarningSeen",
]


class Ready(NamedTuple):
    """pytest is configured. Versions are texts like `3.13.5`.

    `options` (as `worker.arguments.options` describes them) and `ini_keys` are what it can read, told by a worker that
    describes what it collects.
    """

    protocol: int
    python: str
    pytest: str
    options: tuple[Mapping[str, Any], ...] = ()
    ini_keys: tuple[str, ...] = ()


class Nodes(NamedTuple):
    """A part of what was collected. Parents come before their children, `Collected` after the last part."""

    nodes: tuple[Node, ...]


class CollectError(NamedTuple):
    """A file, folder or class without items. `outcome` is `failed` or `skipped`, `longrepr` what pytest prints."""

    nodeid: str
    outcome: str
    longrepr: str


class Collected(NamedTuple):
    """The collection is done. `items` is how many items there are.

    `isolates` says that each item will find the file system as it is now, whatever the others do. `header` are lines
    that plugins of the image put into it.
    """

    items: int
    errors: tuple[CollectError, ...]
    isolates: bool = False
    header: tuple[str, ...] = ()


class Missing(NamedTuple):
    """The item to run is not there. `outcome` is what it shall have: `failed` or `skipped`.

    With `waits`, the worker has dropped the requests that were ahead of this.
    """

    item: str
    outcome: str
    reason: str
    waits: bool = False


class Report(NamedTuple):
    """A report of an item, as `pytest_report_to_serializable` gives it; `mend_report` makes it fit again."""

    item: str
    data: dict[str, Any]


class WarningSeen(NamedTuple):
    """A warning that an item gave. `category` and `module` are names, for display."""

    when: str
    nodeid: str
    category: str
    module: str
    message: str
    filename: str
    lineno: int
    line: str | None
    location: tuple[str, int, str] | None


class JUnitProperty(NamedTuple):
    """Something for the JUnit file: an attribute of an item, or a property of the whole run where `item` is None."""

    item: str | None
    name: str
    value: str


class Measured(NamedTuple):
    """Coverage of some files: their lines, or with `arcs` pairs of lines. `tracers` are coverage's plugins, by file."""

    context: str
    arcs: bool
    files: Mapping[str, list[Any]]
    tracers: Mapping[str, str]


class Summary(NamedTuple):
    """What plugins of the image say at the end, as they write it to a terminal."""

    text: str


class Asked(NamedTuple):
    """The item that runs wants the value of a fixture of the host, and waits for it."""

    name: str


class Terminal(NamedTuple):
    """A debugger or a shell wants the user's terminal and waits for it (`open`), or gives it back.

    With `shown`, the failure that was reported last is shown on it.
    """

    open: bool
    shown: bool


class ShellEnded(NamedTuple):
    """The shell that was asked for is over. `code` is its exit code."""

    code: int


class Done(NamedTuple):
    """An item is through. `stop` is the text of `session.shouldstop`, if something in the container has set it.

    With `waits`, the worker has dropped the requests that were ahead of this.
    """

    item: str
    stop: str | None
    waits: bool = False


class Interrupted(NamedTuple):
    """Something in the container ended the run. `kind` is `exit` (`pytest.exit()`) or `keyboard`."""

    kind: str
    reason: str
    returncode: int | None


class Output(NamedTuple):
    """Text that went past pytest's capture. `stream` is `stdout`, `stderr`, or the `terminal` that was lent."""

    stream: str
    data: str


class Failure(NamedTuple):
    """pytest could not start, or broke. `text` is what it would print."""

    text: str


class Finished(NamedTuple):
    """pytest ended as it should; the process ends next."""


class Exited(NamedTuple):
    """The worker's process is gone: its exit code, or the signal that killed it."""

    code: int | None
    signal: int | None
    oom: bool


Message = (
    Ready
    | Nodes
    | Collected
    | Missing
    | Report
    | WarningSeen
    | JUnitProperty
    | Measured
    | Summary
    | Asked
    | Terminal
    | ShellEnded
    | Done
    | Interrupted
    | Output
    | Failure
    | Finished
    | Exited
)
