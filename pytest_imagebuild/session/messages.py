"""What a worker tells, as typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
    "Node",
    "Nodes",
    "Output",
    "Ready",
    "Report",
    "ShellEnded",
    "Summary",
    "Terminal",
    "WarningSeen",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """pytest is configured. Versions are texts like `3.13.5`.

    `options` (as `worker.arguments.options` describes them) and `ini_keys` are what it can read, told by a worker that
    describes what it collects.
    """

    protocol: int
    python: str
    pytest: str
    options: tuple[Mapping[str, Any], ...] = ()
    ini_keys: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A node of what was collected. `parent` is the index of an earlier one, None for a directory or a file.

    `role` is `directory` (only one that could not be collected), `file`, `collector` or `item`; `kind` the name of its
    class; `markers` its own, each a name, arguments and keyword arguments; `report` the collect report of one without
    children, as `pytest_report_to_serializable` gives it. Of an item, `order` is its place among those that shall run,
    None for one that shall not, `location` is a path, a line from 0 and a name.
    """

    index: int
    parent: int | None
    role: str
    kind: str
    nodeid: str
    name: str
    path: str
    markers: tuple[tuple[str, tuple[Any, ...], Mapping[str, Any]], ...]
    keywords: tuple[str, ...]
    extra_keywords: tuple[str, ...]
    doc: str | None
    location: tuple[str, int | None, str] | None
    report: Mapping[str, Any] | None
    order: int | None = None
    deselected: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Nodes:
    """A part of what was collected. Parents come before their children, `Collected` after the last part."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class CollectError:
    """A file, folder or class without items. `outcome` is `failed` or `skipped`, `longrepr` what pytest prints."""

    nodeid: str
    outcome: str
    longrepr: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Collected:
    """The collection is done. `items` is how many items there are.

    `isolates` says that each item will find the file system as it is now, whatever the others do. `header` are lines
    that plugins of the image put into it.
    """

    items: int
    errors: tuple[CollectError, ...]
    isolates: bool = False
    header: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Missing:
    """The item to run is not there. `outcome` is what it shall have: `failed` or `skipped`.

    With `waits`, the worker has dropped the requests that were ahead of this.
    """

    item: str
    outcome: str
    reason: str
    waits: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A report of an item, as `pytest_report_to_serializable` gives it; `mend_report` makes it fit again."""

    item: str
    data: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class WarningSeen:
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


@dataclass(frozen=True, kw_only=True, slots=True)
class JUnitProperty:
    """Something for the JUnit file: an attribute of an item, or a property of the whole run where `item` is None."""

    item: str | None
    name: str
    value: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Coverage of some files: their lines, or with `arcs` pairs of lines. `tracers` are coverage's plugins, by file."""

    context: str
    arcs: bool
    files: Mapping[str, list[Any]]
    tracers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What plugins of the image say at the end, as they write it to a terminal."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The item that runs wants the value of a fixture of the host, and waits for it."""

    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Terminal:
    """A debugger or a shell wants the user's terminal and waits for it (`open`), or gives it back.

    With `shown`, the failure that was reported last is shown on it.
    """

    open: bool
    shown: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ShellEnded:
    """The shell that was asked for is over. `code` is its exit code."""

    code: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """An item is through. `stop` is the text of `session.shouldstop`, if something in the container has set it.

    With `waits`, the worker has dropped the requests that were ahead of this.
    """

    item: str
    stop: str | None
    waits: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Interrupted:
    """Something in the container ended the run. `kind` is `exit` (`pytest.exit()`) or `keyboard`."""

    kind: str
    reason: str
    returncode: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """Text that went past pytest's capture. `stream` is `stdout`, `stderr`, or the `terminal` that was lent."""

    stream: str
    data: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """pytest could not start, or broke. `text` is what it would print."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """pytest ended as it should; the process ends next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exited:
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
