"""Stand-ins, in the user's pytest, for what a worker has collected: pytest selects, orders and shows by them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
from _pytest.mark.structures import Mark
from _pytest.reports import CollectErrorRepr

from pytest_imagebuild.dispatch.governed.places import Place, Places
from pytest_imagebuild.dispatch.governed.proxy import Proxy
from pytest_imagebuild.dispatch.governed.tree import Tree
from pytest_imagebuild.dispatch.requests import Request
from pytest_imagebuild.errors import WireError
from pytest_imagebuild.session.nodes import Node
from pytest_imagebuild.session.reports import mend_collect_report

__all__ = ["Forest", "ProxyDirectory", "ProxyItem", "ProxyReports"]

_OWN_IMAGE = "image"


@dataclass(frozen=True, kw_only=True, slots=True)
class Forest:
    """What the workers of all places have collected. `natives` are files with tests that have images of their own."""

    places: Places
    trees: dict[Place, Tree]
    natives: set[Path]

    def directory(self, path: Path, parent: pytest.Collector) -> ProxyDirectory:
        """Return the stand-in for a folder."""
        directory: ProxyDirectory = ProxyDirectory.from_parent(parent, path=path, forest=self)
        return directory

    def of(self, path: Path) -> list[tuple[Place, Tree]]:
        """Return the collections that hold for a path."""
        return [(place, self.trees[place]) for place in self.places.of(path) if place in self.trees]


class ProxyDirectory(Proxy, pytest.Directory):
    """A folder. Its conftest file is loaded here too, for what it has to do with reports."""

    def __init__(self, *, forest: Forest, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.forest = forest
        self.kind = "Package" if (self.path / "__init__.py").is_file() else "Dir"

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Yield folders and files, in the order of the first image's collection."""
        collections = self.forest.of(self.path)
        paths = dict.fromkeys(path for _, tree in collections for path in tree.within(self.path))
        paths.update(dict.fromkeys(folder for folder in self._own_folders() if folder.parent == self.path))
        for path in paths:
            files = [(place, tree, node) for place, tree in collections for node in tree.file(path)]
            if path in self.forest.natives:
                collectors = self.ihook.pytest_collect_file(file_path=path, parent=self)
                yield from (collector for collector in collectors if isinstance(collector, pytest.Module))
            for place, tree, node in files:
                yield from _made(self, [node], tree, place)
            if not files and path not in self.forest.natives:
                yield self.forest.directory(path, self)

    def _own_folders(self) -> Iterator[Path]:
        """Yield the folders on the way to those below that have images of their own."""
        for folder in self.forest.places.below(self.path):
            yield next(part for part in (folder, *folder.parents) if part.parent == self.path)


class ProxyCollector(Proxy, pytest.Collector):
    """A class, or whatever else groups tests in a file."""

    def __init__(self, *, node: Node, tree: Tree, place: Place, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.node, self.tree, self.place = node, tree, place
        _dress(self, node)

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """Return the stand-ins for what is in it."""
        return _made(self, self.tree.children(self.node), self.tree, self.place)


class ProxyFile(ProxyCollector, pytest.File):
    """A file."""


class ProxyItem(Proxy, pytest.Item):
    """A test. `inside` is its node id there."""

    def __init__(self, *, node: Node, place: Place, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.node, self.place = node, place
        self.inside = node.nodeid
        self.image_label = place.label
        self.request = Request(session=place.key, timeout=None)
        _dress(self, node)

    @property
    def location(self) -> tuple[str, int | None, str]:
        """Where the test stands, as its worker says."""
        path, line, name = self.node.location or (str(self.path), None, self.name)
        return (path, line, _with_label(name, self.place.label))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return where the test stands."""
        return (self.path, self.location[1], self.location[2])

    def runtest(self) -> NoReturn:
        """Never called: the test runs in its container."""
        pytest.fail(f"{self.nodeid} was to run here, but its file is only known in the container.", pytrace=False)


class ProxyReports:
    """A plugin that tells what came of the collection inside."""

    # Before pytest's own, but after those that leave files out.
    def pytest_make_collect_report(self, collector: pytest.Collector) -> pytest.CollectReport | None:
        """Return the collect report of a stand-in. None for any other collector, and for a folder without problems."""
        return _report_of(collector)


def _report_of(collector: pytest.Collector) -> pytest.CollectReport | None:
    if isinstance(collector, ProxyDirectory):
        return _report_of_folder(collector)
    if not isinstance(collector, (ProxyFile, ProxyCollector)):
        return None
    if collector.node.report is not None:
        return _problem(collector, collector.node.report)
    return pytest.CollectReport(collector.nodeid, "passed", None, list(collector.collect()))


def _report_of_folder(collector: ProxyDirectory) -> pytest.CollectReport | None:
    collections = collector.forest.of(collector.path)
    for place, tree in collections:
        if tree.failure:
            label = f"{place.label}: " if place.label else ""
            return _failed(collector, f"{label}{tree.failure}")
        problem = tree.problem(collector.path)
        if problem is not None and problem.report is not None:
            return _problem(collector, problem.report)
    return None


def _problem(collector: pytest.Collector, data: Any) -> pytest.CollectReport:
    try:
        mended = {**mend_collect_report(data), "nodeid": collector.nodeid}
    except WireError as error:
        return _failed(collector, str(error))
    text = mended["longrepr"]
    hook = collector.config.hook
    report: pytest.CollectReport = hook.pytest_report_from_serializable(config=collector.config, data=mended)
    if isinstance(text, str):
        report.longrepr = CollectErrorRepr(text)
    report.result = []
    return report


def _failed(collector: pytest.Collector, text: str) -> pytest.CollectReport:
    return pytest.CollectReport(collector.nodeid, "failed", CollectErrorRepr(text), [])


def _made(
    parent: pytest.Collector, nodes: Iterable[Node], tree: Tree, place: Place
) -> Iterator[pytest.Item | pytest.Collector]:
    for node in nodes:
        if node.role == "item":
            if not _has_own_image(parent, node):
                yield ProxyItem.from_parent(
                    parent,
                    name=_with_label(node.name, place.label),
                    nodeid=_with_label(node.nodeid, place.label),
                    node=node,
                    place=place,
                )
        elif node.role == "file":
            yield ProxyFile.from_parent(parent, path=Path(node.path), node=node, tree=tree, place=place)
        else:
            yield ProxyCollector.from_parent(
                parent, name=node.name, nodeid=node.nodeid, node=node, tree=tree, place=place
            )


def _dress(proxy: pytest.Item | pytest.Collector, node: Node) -> None:
    """Give a stand-in the markers and keywords of what it stands for."""
    proxy.kind = node.kind  # type: ignore[union-attr]
    for name, arguments, named in node.markers:
        # Not by `pytest.mark`: what it knows here is not what is registered there.
        proxy.own_markers.append(Mark(name, arguments, named, _ispytest=True))
    proxy.keywords.update(dict.fromkeys((*node.keywords, *(name for name, _, _ in node.markers)), True))
    proxy.extra_keyword_matches.update(node.extra_keywords)
    if node.doc:
        proxy.obj = _Described(node.doc)  # type: ignore[union-attr]


class _Described:
    """Has the documentation of a test, which `--collect-only -v` shows."""

    def __init__(self, text: str) -> None:
        self.__doc__ = text


def _has_own_image(parent: pytest.Collector, node: Node) -> bool:
    return any(name == _OWN_IMAGE for name, _, _ in node.markers) or parent.get_closest_marker(_OWN_IMAGE) is not None


def _with_label(name: str, label: str) -> str:
    """Return a name or node id that says in which of several images, as a first parameter would."""
    if not label:
        return name
    if name.endswith("]") and "[" in name:
        start, _, parameters = name.partition("[")
        return f"{start}[{label}-{parameters}"
    return f"{name}[{label}]"
