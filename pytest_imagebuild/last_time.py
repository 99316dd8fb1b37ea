"""What a command line has needed the last time, in pytest's cache: a row for each container.

Imports nothing of the package: a run on the host alone looks here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

__all__ = ["recall", "remember"]

_CACHE_KEY = "imagebuild/containers"
_COMMAND_LINES = 20
"""How many command lines are remembered."""


def remember(config: pytest.Config, rows: Sequence[Sequence[object]]) -> None:
    """Keep rows of what JSON knows for the next run with this command line."""
    cache = getattr(config, "cache", None)
    if cache is None:
        return
    line, now = _command_line(config), [list(row) for row in rows]
    before = _remembered(config)
    if [line, now] not in before:
        others = [entry for entry in before if entry[0] != line]
        cache.set(_CACHE_KEY, [*others, [line, now]][-_COMMAND_LINES:])


def recall(config: pytest.Config) -> Sequence[Any]:
    """Return the rows that the last run with this command line has kept. The file may have been changed by hand."""
    line = _command_line(config)
    return next((rows for known, rows in _remembered(config) if known == line and isinstance(rows, list)), [])


def _remembered(config: pytest.Config) -> list[Any]:
    cache = getattr(config, "cache", None)
    found = cache.get(_CACHE_KEY, None) if cache is not None else None
    return [entry for entry in found if isinstance(entry, list) and len(entry) == 2] if isinstance(found, list) else []


def _command_line(config: pytest.Config) -> list[str]:
    return [str(config.invocation_params.dir), *map(str, config.invocation_params.args)]
