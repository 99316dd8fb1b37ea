"""What a worker has collected, put together from its messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_imagebuild.errors import WireError
from pytest_imagebuild.session.messages import CollectError
from pytest_imagebuild.session.nodes import Node

__all__ = ["MAX_DEPTH", "Tree"]

MAX_DEPTH = 50
"""How deep nodes of a file may be nested: pytest goes through them by recursion."""


class Tree:
    """The nodes of one worker's collection, by the folders and files that they stand in."""

    def __init__(self) -> None:
        self._children: dict[int, list[Node]] = {}
        self._depths: dict[int, int] = {}
        self._files: dict[Path, list[Node]] = {}
        self._folders: dict[Path, dict[Path, None]] = {}
        self._problems: dict[Path, Node] = {}
        self.failure = ""
        """Why there is no collection at all."""

    def add(self, nodes: Iterable[Node]) -> None:
        """Add nodes, parents first. Raises WireError for one whose parent is not there, or which is nested too deep."""
        for node in nodes:
            if node.parent is not None:
                if node.parent not in self._children:
                    msg = f"The worker sent the node {node.nodeid!r} without its parent"
                    raise WireError(msg)
                if self._depths[node.parent] == MAX_DEPTH:
                    msg = f"The worker sent the node {node.nodeid!r}, which is nested deeper than {MAX_DEPTH}"
                    raise WireError(msg)
                self._children[node.parent].append(node)
                self._depths[node.index] = self._depths[node.parent] + 1
            else:
                self._depths[node.index] = 0
                path = Path(node.path)
                if node.role == "directory":
                    self._problems[path] = node
                else:
                    self._files.setdefault(path, []).append(node)
                for inner, outer in zip((path, *path.parents), path.parents, strict=False):
                    self._folders.setdefault(outer, {})[inner] = None
            if node.role != "item":
                self._children[node.index] = []

    def lacks(self, path: Path, error: CollectError, arguments: Sequence[str]) -> None:
        """Note why something that was asked for by its path is not there, unless there is something."""
        asked = any(argument.partition("::")[0].endswith(path.name) for argument in arguments)
        if asked and path not in self._files and path not in self._folders and path not in self._problems:
            report = {"nodeid": error.nodeid, "outcome": error.outcome, "longrepr": error.longrepr, "sections": []}
            self.add([_absent(path, error.nodeid, report, index=-1 - len(self._children))])

    def files(self) -> Iterator[tuple[Path, list[Node]]]:
        """Yield each file with its collectors."""
        yield from self._files.items()

    def problem(self, folder: Path) -> Node | None:
        """Return the node of a folder that could not be collected."""
        return self._problems.get(folder)

    def within(self, folder: Path) -> Iterator[Path]:
        """Yield the folders and files in a folder that have something in them, in their order."""
        yield from self._folders.get(folder, ())

    def file(self, path: Path) -> list[Node]:
        """Return the collectors of a file, or the items that stand for it; [] for a folder."""
        return self._files.get(path, [])

    def children(self, node: Node) -> list[Node]:
        """Return what a node holds."""
        return self._children.get(node.index, [])

    def everything(self, node: Node) -> Iterator[Node]:
        """Yield a node and all below it."""
        stack = [node]
        while stack:
            each = stack.pop()
            yield each
            stack += reversed(self.children(each))


def _absent(path: Path, nodeid: str, report: Mapping[str, Any], *, index: int) -> Node:
    return Node(
        index=index,
        parent=None,
        role="directory" if path.is_dir() else "file",
        kind="Dir" if path.is_dir() else "Module",
        nodeid=nodeid,
        name=path.name,
        path=str(path),
        markers=(),
        keywords=(),
        extra_keywords=(),
        doc=None,
        location=None,
        report=report,
    )
