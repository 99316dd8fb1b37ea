"""The whole project once on the host, once inside: every report, every section, every file is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from engines import EngineUnderTest
from parity import WAYS, Told, Twins

ARGUMENTS = (
    "-p",
    "no:xdist",
    "-v",
    "-rA",
    "--doctest-modules",
    "--flavour=strawberry",
    "-o",
    "junit_logging=all",
    "--ignore=tests/test_unittest_subtests.py",
)

Both = tuple[Told, Told]


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """Return how the tests get into the container."""
    return str(request.param)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, engine: EngineUnderTest, common: Path, way: str) -> Both:
    """Return what the run on the host told, and what the run inside told."""
    return Twins(tmp_path_factory.mktemp("parity"), engine, common, way=way).run(*ARGUMENTS)


def assert_same(both: Both, name: str) -> None:
    host, inside = both[0].of(name), both[1].of(name)
    assert inside.keys() == host.keys()
    different = {key: (host[key], inside[key]) for key in host if host[key] != inside[key]}
    assert different == {}


def test_the_tests_really_ran_inside(both: Both, way: str) -> None:
    def where(told: Told) -> dict[str, set[str]]:
        places: dict[str, set[str]] = {}
        for report in told.reports:
            for name, value in report["properties"]:
                if name == "where":
                    places.setdefault(value, set()).add(report["nodeid"])
        return places

    host, inside = where(both[0]), where(both[1])
    assert set(host) == {"host"}
    unmarked = ("test_host", "test_host_again", "test_host_fails", "tests.test_mixed")
    on_host = inside.get("host", set())
    assert on_host == (set() if way == "flag" else {f"tests/test_mixed.py::{name}" for name in unmarked})
    assert len(inside["container"]) > 100
    assert inside["container"] | on_host == host["host"]


def test_every_report_has_the_same_outcome_and_comes_in_the_same_order(both: Both) -> None:
    def outcomes(told: Told) -> list[tuple[Any, ...]]:
        return [tuple(report[name] for name in ("nodeid", "when", "outcome", "wasxfail")) for report in told.reports]

    assert outcomes(both[1]) == outcomes(both[0])


def test_every_outcome_that_pytest_knows_occurs(both: Both) -> None:
    summary = both[0].terminal[-1]
    for word in ("failed", "passed", "skipped", "xfailed", "xpassed", "warnings", "errors"):
        assert word in summary


def test_every_failure_has_the_same_text_file_and_line(both: Both) -> None:
    assert_same(both, "text")


def test_every_captured_section_is_the_same(both: Both) -> None:
    assert_same(both, "sections")


def test_every_location_is_the_same(both: Both) -> None:
    assert_same(both, "location")


@pytest.mark.skipif(pytest.version_tuple < (8,), reason="pytest 7 makes other packages of a file than of a folder")
def test_every_keyword_is_the_same(both: Both) -> None:
    assert_same(both, "keywords")


def test_fixtures_are_set_up_and_torn_down_in_the_same_order(both: Both) -> None:
    def orders(told: Told) -> dict[str, Any]:
        return {
            report["nodeid"]: value
            for report in told.reports
            for name, value in report["properties"]
            if name == "order"
        }

    host, inside = orders(both[0]), orders(both[1])
    assert inside == host
    at_the_end = host["tests/deep/test_scopes_again.py::test_new_module_same_session"]
    assert at_the_end[-3:] == [
        "side - right",
        "module - tests.deep.test_scopes",
        "module + tests.deep.test_scopes_again",
    ]


def test_recorded_properties_are_the_same(both: Both) -> None:
    def properties(told: Told) -> list[tuple[str, Any]]:
        return [
            (report["nodeid"], [pair for pair in report["properties"] if pair[0] != "where"]) for report in told.reports
        ]

    assert properties(both[1]) == properties(both[0])


@pytest.mark.parametrize(
    "title", ["ERRORS", "FAILURES", "PASSES", "XPASSES", "warnings summary", "short test summary info"]
)
def test_every_part_of_the_terminal_is_the_same(both: Both, title: str) -> None:
    host, inside = both
    assert inside.section(title) == host.section(title)


def test_the_whole_terminal_is_the_same(both: Both) -> None:
    host, inside = both
    assert inside.terminal == host.terminal
    assert inside.ran.err == host.ran.err == ""


def test_the_junit_file_is_the_same(both: Both) -> None:
    host, inside = both
    assert inside.junit.splitlines() == host.junit.splitlines()
    assert '<property name="number" value="3"' in inside.junit


def test_the_exit_code_is_the_same(both: Both) -> None:
    assert both[1].ran.code == both[0].ran.code == pytest.ExitCode.TESTS_FAILED


def test_no_warning_comes_from_the_plugin(both: Both) -> None:
    for told in both:
        assert "pytest_imagebuild" not in "\n".join(told.section("warnings summary"))
        assert "cannot be rewritten" not in told.ran.text
