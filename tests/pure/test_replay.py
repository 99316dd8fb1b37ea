"""Reports of a worker become those of the user's pytest, which keeps all of them: they share what is the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from doubles import plugin_arguments

from pytest_imagebuild.dispatch.replay import Replay
from pytest_imagebuild.session.messages import Report
from pytest_imagebuild.session.reports import mend_report

pytest_plugins = ["pytester"]


@pytest.fixture
def item(pytester: pytest.Pytester) -> pytest.Item:
    source = "import pytest\n\n@pytest.mark.parametrize('n', [1])\n@pytest.mark.slow\ndef test_it(n):\n    pass\n"
    pytester.makeini("[pytest]\nmarkers = slow")
    [item] = pytester.genitems([pytester.getmodulecol(source, configargs=plugin_arguments())])
    return item


def replayed(item: pytest.Item, *, names: dict[str, str] | None = None, **changes: object) -> list[pytest.TestReport]:
    replay = Replay(item.config, names or {})
    found = []
    for when in ("setup", "call", "teardown"):
        call = pytest.CallInfo.from_call(lambda: None, when=when)
        sent = pytest.TestReport.from_item_and_call(item, call)
        data: dict[str, Any] = item.config.hook.pytest_report_to_serializable(config=item.config, report=sent)
        crossed = json.loads(json.dumps({**data, **changes}))
        message = Report(item=crossed["nodeid"], data=mend_report(crossed, items=[crossed["nodeid"]]))
        [report] = replay.reports(item, message)
        found.append(report)
    return found


def test_the_reports_of_a_test_share_what_is_the_same(item: pytest.Item) -> None:
    reports = replayed(item)
    assert [report.when for report in reports] == ["setup", "call", "teardown"]
    for report in reports:
        assert report.nodeid == item.nodeid
        assert report.location is item.location
        assert report.keywords == dict.fromkeys(item.keywords, 1)
        assert report.keywords is reports[0].keywords
        if hasattr(item, "id"):
            assert report.id is item.id


def test_reports_have_lists_of_their_own(item: pytest.Item) -> None:
    first, second, _ = replayed(item)
    assert first.sections is not second.sections
    assert first.user_properties is not second.user_properties


def test_what_is_different_inside_stays_so(item: pytest.Item) -> None:
    for report in replayed(item, location=["other.py", 7, "test_other"], keywords={"only inside": 1}):
        assert report.location == ("other.py", 7, "test_other")
        assert report.keywords == {"only inside": 1}


def test_a_report_has_the_name_that_its_test_has_here(item: pytest.Item) -> None:
    for report in replayed(item, nodeid="inside.py::test_it", names={"inside.py::test_it": item.nodeid}):
        assert report.nodeid == item.nodeid
    for report in replayed(item, nodeid="another.py::test_it"):
        assert report.nodeid == "another.py::test_it"
        assert report.location == item.location
