"""What a worker has collected, node by node, for a controller that does not collect it itself.

Runs in the container: imports the standard library and pytest only.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

import pytest

__all__ = ["CollectedTree"]

_DIRECTORIES: tuple[type, ...] = tuple(
    getattr(pytest, name) for name in ("Directory", "Package") if hasattr(pytest, name)
)
_ROOTS = (pytest.Session, *_DIRECTORIES)
_SHORT = 50
"""The most elements of a list in a marker's arguments that are worth telling."""


class CollectedTree:
    """Keeps what pytest collects, as it stands when plugins and conftest files have had their say."""

    def __init__(self) -> None:
        self._reports: dict[pytest.Collector, pytest.CollectReport] = {}
        self._deselected: set[pytest.Item] = set()

    # The outermost, so that the report has what others add to it.
    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, Any, None]:
        """Keep what came of a collector; of one that is collected twice, the first."""
        outcome = yield
        if outcome.excinfo is None:
            self._reports.setdefault(collector, outcome.get_result())

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Keep which items a conftest file or a plugin leaves out."""
        self._deselected.update(items)

    def nodes(self, session: pytest.Session) -> Iterator[dict[str, Any]]:
        """Yield directories that could not be collected, and files with all that is in them, parents first.

        `index` numbers them, `parent` is the index of the parent, None for a directory or a file. `order` is the
        item's place among those that shall run, None for one that shall not.
        """
        order = {item.nodeid: place for place, item in reversed(list(enumerate(session.items)))}
        index = 0
        stack: list[tuple[pytest.Item | pytest.Collector, int | None]] = [(node, None) for node in self._tops()]
        stack.reverse()
        while stack:
            node, parent = stack.pop()
            described = {"index": index, "parent": parent, **self._described(node)}
            if isinstance(node, pytest.Item):
                described["order"] = order.get(node.nodeid)
                described["deselected"] = node in self._deselected
            yield described
            if not isinstance(node, _DIRECTORIES):
                stack += [(child, index) for child in reversed(self._children(node))]
            index += 1

    def _tops(self) -> list[pytest.Item | pytest.Collector]:
        """Return the directories with a problem and the files that were collected, in the order of the collection."""
        tops: dict[tuple[str, str, str], pytest.Item | pytest.Collector] = {}
        for collector, report in self._reports.items():
            if isinstance(collector, _DIRECTORIES) and not report.passed:
                tops.setdefault(_identity(collector), collector)
        for root in self._in_order():
            for child in self._children(root):
                top = _top_of(child)
                if isinstance(top, pytest.Item) or (top in self._reports and not isinstance(top, _DIRECTORIES)):
                    tops.setdefault(_identity(top), top)
        return list(tops.values())

    def _in_order(self) -> Iterator[pytest.Collector]:
        """Yield the session and the directories as a walk comes by: a folder's content where the folder stands."""
        seen: set[int] = set()

        def walk(root: pytest.Collector) -> Iterator[pytest.Collector]:
            if id(root) not in seen:
                seen.add(id(root))
                yield root
                for child in self._children(root):
                    if isinstance(child, pytest.Collector) and isinstance(child, _DIRECTORIES):
                        yield from walk(child)

        for root in list(self._reports):
            if isinstance(root, _ROOTS):
                yield from walk(root)

    def _children(self, node: pytest.Item | pytest.Collector) -> Sequence[pytest.Item | pytest.Collector]:
        report = self._reports.get(node) if isinstance(node, pytest.Collector) else None
        return report.result or () if report is not None else ()

    def _described(self, node: pytest.Item | pytest.Collector) -> dict[str, Any]:
        function = getattr(node, "function", None) if isinstance(node, pytest.Item) else None
        problem = self._problem(node)
        extra = {*map(str, node.extra_keyword_matches), *getattr(function, "__dict__", ())}
        return {
            "role": _role(node),
            "kind": type(node).__name__,
            "nodeid": node.nodeid,
            "name": node.name,
            "path": str(node.path),
            "markers": [_marker(mark) for mark in node.own_markers],
            "keywords": [str(name) for name in getattr(node.keywords, "_markers", ())],
            "extra_keywords": sorted(extra),
            "doc": None if problem is not None else _doc(node),
            "location": _location(node) if isinstance(node, pytest.Item) else None,
            "report": problem,
        }

    def _problem(self, node: pytest.Item | pytest.Collector) -> object:
        report = self._reports.get(node) if isinstance(node, pytest.Collector) else None
        if report is None or report.passed:
            return None
        return node.config.hook.pytest_report_to_serializable(config=node.config, report=report)


def _top_of(node: pytest.Item | pytest.Collector) -> pytest.Item | pytest.Collector:
    """Return the node's file: what stands in a directory or right below the session."""
    while node.parent is not None and not isinstance(node.parent, _ROOTS):
        node = node.parent
    return node


def _identity(node: pytest.Item | pytest.Collector) -> tuple[str, str, str]:
    return (str(node.path), type(node).__name__, node.nodeid)


def _role(node: pytest.Item | pytest.Collector) -> str:
    if isinstance(node, pytest.Item):
        return "item"
    if isinstance(node, _DIRECTORIES):
        return "directory"
    return "file" if isinstance(node, pytest.File) else "collector"


def _marker(mark: pytest.Mark) -> list[Any]:
    return [mark.name, [_told(value) for value in mark.args], {key: _told(value) for key, value in mark.kwargs.items()}]


def _told(value: object) -> object:
    """Return a marker's argument if it is simple: the controller selects by it, and runs nothing with it."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)) and len(value) < _SHORT:
        return [_told(each) for each in value]
    if isinstance(value, Mapping) and len(value) < _SHORT:
        return {str(name): _told(each) for name, each in value.items()}
    return f"<{type(value).__name__}>"


def _doc(node: pytest.Item | pytest.Collector) -> str | None:
    """Return what `--collect-only -v` shows of a node."""
    config = node.config
    if not config.getoption("verbose"):
        return None
    return inspect.getdoc(getattr(node, "obj", None)) if getattr(node, "obj", None) else None


def _location(item: pytest.Item) -> tuple[str, int | None, str]:
    try:
        path, line, name = item.location
    except Exception:  # noqa: BLE001 - an item of the user's own kind may do anything here; it shall fail when it runs
        return (item.nodeid.partition("::")[0], None, item.name)
    return (str(path), line, str(name))
