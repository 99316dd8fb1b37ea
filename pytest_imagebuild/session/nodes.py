"""What a worker tells of what it has collected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Node"]


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
