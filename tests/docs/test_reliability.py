"""The pages on reliability and security name tests that there are."""

from __future__ import annotations

import re

import pytest

from .readme import ROOT
from .test_conformance import defined_in

PAGES = [ROOT / "docs" / "reliability.md", ROOT / "SECURITY.md"]
NAMED = [
    (page.name, *named)
    for page in PAGES
    for named in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_everything_that_looks_like_a_test_is_read_as_one(page: object) -> None:
    text = (ROOT / str(page)).read_text(encoding="utf-8")
    assert sum(name == (ROOT / str(page)).name for name, _, _ in NAMED) == text.count("::") > 15


@pytest.mark.parametrize(("page", "path", "name"), NAMED)
def test_the_tests_that_are_named_exist(page: str, path: str, name: str) -> None:
    assert name in defined_in(path)
