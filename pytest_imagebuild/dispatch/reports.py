"""Reports of our own, for items that a worker could not report on."""

from __future__ import annotations

from typing import Literal

import pytest

__all__ = ["Phase", "failed", "passed", "skipped"]

Phase = Literal["setup", "call", "teardown"]


def failed(
    item: pytest.Item, text: str, *, when: Phase, sections: list[tuple[str, str]] | None = None
) -> pytest.TestReport:
    """Return a failed report of `item` whose explanation is `text`."""
    return _report(item, "failed", text, when, sections)


def passed(item: pytest.Item, *, when: Phase) -> pytest.TestReport:
    """Return a passed report of `item`: closes an item whose worker is gone."""
    return _report(item, "passed", None, when, None)


def skipped(item: pytest.Item, reason: str) -> pytest.TestReport:
    """Return a skipped report of `item`."""
    path, line, _ = item.location
    return _report(item, "skipped", (str(path), (line or 0) + 1, reason), "setup", None)


def _report(
    item: pytest.Item,
    outcome: Literal["passed", "failed", "skipped"],
    longrepr: str | tuple[str, int, str] | None,
    when: Phase,
    sections: list[tuple[str, str]] | None,
) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords=dict.fromkeys(item.keywords, 1),
        outcome=outcome,
        longrepr=longrepr,
        when=when,
        sections=sections or [],
        duration=0.0,
        start=0.0,
        stop=0.0,
    )
