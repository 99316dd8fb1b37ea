"""The page on compatibility names tests that there are, and each of its rows has one."""

from __future__ import annotations

import re

import pytest

from .readme import ROOT
from .test_conformance import defined_in

PAGE = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
ROWS = [line for line in re.findall(r"(?m)^\| .*$", PAGE) if not line.endswith("| test |")]
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


def test_everything_that_looks_like_a_test_is_read_as_one() -> None:
    assert len(NAMED) == PAGE.count("::") > 20


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_a_test(row: str) -> None:
    assert re.search(r"`tests/[\w/]+\.py::\w+`", row)


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_the_tests_that_are_named_exist(path: str, name: str) -> None:
    assert name in defined_in(path)
