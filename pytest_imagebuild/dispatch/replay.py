"""What a worker tells, told to the user's pytest: its hooks are called as if the item had run here."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import pytest
from _pytest.junitxml import xml_key

from pytest_imagebuild.dispatch import covering, reports
from pytest_imagebuild.session.messages import (
    Done,
    Interrupted,
    JUnitProperty,
    Measured,
    Message,
    Missing,
    Output,
    Report,
    Summary,
    WarningSeen,
)
from pytest_imagebuild.session.reports import warning_message

__all__ = ["SUMMARIES", "Replay"]

SUMMARIES: pytest.StashKey[list[tuple[str, str]]] = pytest.StashKey()
"""What plugins of images say at the end of this run, each with what the ids of tests show of the image."""


def _failed_subtests_key() -> pytest.StashKey[dict[Any, int]] | None:
    try:
        from _pytest import subtests  # noqa: PLC0415 - pytest 8 has none
    except ImportError:
        return None
    return getattr(subtests, "failed_subtests_key", None)


def _structured_id() -> type | None:
    try:
        from _pytest.nodeid import NodeId  # noqa: PLC0415 - since pytest 9.2
    except ImportError:
        return None
    return NodeId


_FAILED_SUBTESTS = _failed_subtests_key()
_NODE_ID = _structured_id()


class _Writer(Protocol):
    def line(self, s: str = "") -> None: ...


class Replay:
    """Replays messages of one session.

    `label` is what the ids of its items show of their image, `names` are the node ids that pytest uses here, by those
    that the worker uses.
    """

    def __init__(self, config: pytest.Config, names: Mapping[str, str], label: str = "") -> None:
        self._config = config
        self._label = label
        self._names = names
        self._keywords: Mapping[str, Any] = {}
        self.live: bool = config.getoption("capture") != "fd" or config.getoption("setupshow", False)
        """Whether output goes to the terminal as it comes, between the words of the reports."""

    def reports(self, item: pytest.Item, message: Message) -> Iterator[pytest.TestReport]:
        """Yield the reports that a message about `item` brings. Raises what ended the whole run."""
        match message:
            case Report(data=data):
                report = self._native(data, item)
                if report.failed and "_subtest.context" in data:
                    self._count_failed_subtest(item, report)
                yield report
            case Missing(outcome="skipped", reason=reason):
                yield reports.skipped(item, reason)
                yield reports.passed(item, when="teardown")
            case Missing(reason=reason):
                yield from reports.setup_error(item, reason)
            case Interrupted(kind="exit", reason=reason, returncode=returncode):
                pytest.exit(reason, returncode)
            case Interrupted():
                raise KeyboardInterrupt
            case Done(stop=str(reason)):
                item.session.shouldstop = reason
            case _:
                self._aside(item.ihook, message)

    def late(self, message: Message) -> None:
        """Replay what came after the last item: fixtures that failed at their end."""
        match message:
            case Report():
                self._config.hook.pytest_runtest_logreport(report=self._native(message.data))
            case _:
                self._aside(self._config.hook, message)

    def collection(self, message: Message) -> None:
        """Replay what came while the worker collected, which nothing here did. Raises what ended the whole run."""
        match message:
            case Interrupted(kind="exit", reason=reason, returncode=returncode):
                pytest.exit(reason, returncode)
            case Interrupted():
                raise KeyboardInterrupt
            case WarningSeen(when="config"):
                pass  # the controller gives the same ones
            case _:
                self._aside(self._config.hook, message)

    def _aside(self, hook: Any, message: Message) -> None:
        match message:
            case WarningSeen():
                hook.pytest_warning_recorded.call_historic(
                    kwargs={
                        "warning_message": warning_message(message),
                        "nodeid": self._names.get(message.nodeid, message.nodeid),
                        "when": message.when,
                        "location": message.location,
                    }
                )
            case JUnitProperty():
                self._to_junit(message)
            case Summary(text=text):
                self._config.stash.setdefault(SUMMARIES, []).append((self._label, text))
            case Measured():
                covering.write(self._config, message)
            case Output(stream=stream, data=text) if self.live:
                target = sys.stderr if stream == "stderr" else sys.stdout
                target.write(text)
                target.flush()
            case _:
                pass

    def _to_junit(self, message: JUnitProperty) -> None:
        file = self._config.stash.get(xml_key, None)
        if file is None:
            return
        if message.item is None:
            file.add_global_property(message.name, message.value)
        else:
            # As the fixture does: by the node id, so that the reports of the item find it.
            file.node_reporter(self._names.get(message.item, message.item)).add_attribute(message.name, message.value)

    def _native(self, data: Mapping[str, Any], item: pytest.Item | None = None) -> pytest.TestReport:
        """Return the report as an object of pytest's; a kind that nothing here knows becomes a plain one."""
        values = {**data, "nodeid": self._names.get(data["nodeid"], data["nodeid"])}
        report = self._own_kind(values) if "_report_type" in values else None
        if report is None:
            values = {name: value for name, value in values.items() if not name.startswith("_")}
            if item is not None and values["nodeid"] == item.nodeid:
                self._share(values, item)
            report = self._unserialized({**values, "$report_type": "TestReport"})
        if isinstance(report.longrepr, str) and "\n" in report.longrepr:
            report.longrepr = _Text(report.longrepr)
        return report

    def _share(self, values: dict[str, Any], item: pytest.Item) -> None:
        """Let a report have what its item and the reports before it have already: pytest keeps all of them."""
        structured = getattr(item, "id", None)
        if _NODE_ID is not None and isinstance(structured, _NODE_ID) and str(structured) == item.nodeid:
            values["nodeid"] = structured
        if values["location"] == item.location:
            values["location"] = item.location
        if values["keywords"] != self._keywords:
            own = dict.fromkeys(item.keywords, 1)
            self._keywords = own if own == values["keywords"] else values["keywords"]
        values["keywords"] = self._keywords

    def _own_kind(self, values: Mapping[str, Any]) -> pytest.TestReport | None:
        """Return a report of a kind that a plugin added, None if no plugin here knows it."""
        try:
            report: pytest.TestReport | None = self._unserialized(values)
        except (AttributeError, KeyError, TypeError, ValueError):
            return None
        # pytest 9.2 takes the repr of what is a repr already.
        shown = getattr(getattr(report, "context", None), "kwargs", None)
        sent = (values.get("_subtest.context") or {}).get("kwargs", {})
        if isinstance(shown, dict):
            shown.update({name: text for name, text in sent.items() if shown.get(name) == repr(text)})
        return report

    def _count_failed_subtest(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Let pytest 9 know of it: a test whose `subtests` failed fails, which pytest decides where it reports."""
        # Loaded if there is any such class.
        case = getattr(sys.modules.get("unittest"), "TestCase", None)
        of_unittest = isinstance(item, pytest.Function) and item.cls and case and issubclass(item.cls, case)
        of_unittest = of_unittest or getattr(item, "kind", "") == "TestCaseFunction"
        if _FAILED_SUBTESTS is not None and not of_unittest:
            self._config.stash[_FAILED_SUBTESTS][getattr(report, "id", report.nodeid)] += 1

    def _unserialized(self, values: Mapping[str, Any]) -> Any:
        return self._config.hook.pytest_report_from_serializable(config=self._config, data=dict(values))


class _Text:
    """An explanation that crossed as text. Not a `str`, which pytest would repeat in its summary of one line each."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text

    def toterminal(self, writer: _Writer) -> None:
        """Write it, as pytest does."""
        for line in self._text.splitlines():
            writer.line(line)
