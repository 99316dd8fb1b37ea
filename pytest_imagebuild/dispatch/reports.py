"""Reports of our own, for items that a worker could not report on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Literal

import pytest

__all__ = ["Phase", "failed", "passed", "publish", "setup_error", "shown_by_debugger", "skipped", "tear_down"]

Phase = Literal["setup", "call", "teardown"]


def publish(item: pytest.Item, nextitem: pytest.Item | None, of_item: Iterable[pytest.TestReport]) -> None:
    """Give pytest the reports of an item, as its own protocol does."""
    hook = item.ihook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in of_item:
        hook.pytest_runtest_logreport(report=report)
    tear_down(item, nextitem)
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def tear_down(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Tear down what tests of the host before `item` have set up and `nextitem` does not need, as pytest expects."""
    state = item.session._setupstate  # noqa: SLF001 - what pytest_runtest_teardown does
    needed = nextitem.listchain() if nextitem is not None else []
    if all(node in needed for node in state.stack):
        return
    capture = item.config.pluginmanager.get_plugin("capturemanager")
    with capture.item_capture("teardown", item) if capture else nullcontext():
        call = pytest.CallInfo.from_call(
            lambda: state.teardown_exact(nextitem),
            when="teardown",
            reraise=(pytest.exit.Exception, KeyboardInterrupt),
        )
    if call.excinfo is not None:
        report = item.ihook.pytest_runtest_makereport(item=item, call=call)
        item.ihook.pytest_runtest_logreport(report=report)


def failed(item: pytest.Item, text: str, *, when: Phase, sections: Sequence[tuple[str, str]] = ()) -> pytest.TestReport:
    """Return a failed report of `item` whose explanation is `text`."""
    return _report(item, "failed", text, when, sections)


def passed(item: pytest.Item, *, when: Phase) -> pytest.TestReport:
    """Return a passed report of `item`: closes an item whose worker is gone."""
    return _report(item, "passed", None, when)


def shown_by_debugger(report: pytest.TestReport, config: pytest.Config) -> None:
    """Note that a report has been shown, in lines of its own: pytest does not repeat it in its summary then."""
    report._pdbshown = True  # type: ignore[attr-defined]  # noqa: SLF001
    if config.pluginmanager.has_plugin("terminalreporter"):
        config.get_terminal_writer()._current_line = ""  # noqa: SLF001 - what was printed inside, it cannot know


def skipped(item: pytest.Item, reason: str) -> pytest.TestReport:
    """Return a skipped report of `item`."""
    path, line, _ = item.location
    return _report(item, "skipped", (str(path), (line or 0) + 1, reason), "setup")


def setup_error(
    item: pytest.Item, text: str, *, sections: Sequence[tuple[str, str]] = ()
) -> Iterator[pytest.TestReport]:
    """Yield the reports of an item that could not even be set up."""
    yield failed(item, text, when="setup", sections=sections)
    yield passed(item, when="teardown")


def _report(
    item: pytest.Item,
    outcome: Literal["passed", "failed", "skipped"],
    longrepr: str | tuple[str, int, str] | None,
    when: Phase,
    sections: Sequence[tuple[str, str]] = (),
) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords=dict.fromkeys(item.keywords, 1),
        outcome=outcome,
        longrepr=longrepr,
        when=when,
        sections=sections,
        duration=0.0,
        start=0.0,
        stop=0.0,
    )
