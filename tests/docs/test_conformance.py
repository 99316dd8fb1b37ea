"""The page on conformance names tests that there are, and leaves no row without one, a deviation or a "not yet"."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from pytest_imagebuild import Image

from .readme import ROOT

PAGE = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
GROUPS = [
    "Bases",
    "pip",
    "uv, Poetry, conda",
    "Commands",
    "Local files",
    "Context",
    "run_function",
    "Other",
    "Other files of Modal's tests",
    "Errors of what a chain begins with",
    "Errors of steps",
    "Errors of semantics",
]
"""The groups of the reference's checklist, in their order, and the errors."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of one of the tables. `deviations` are those that it names ("D3")."""

    group: str
    promise: str
    tests: tuple[tuple[str, str], ...]
    deviations: tuple[str, ...]
    is_not_yet: bool


def rows() -> Iterator[Row]:
    """Return the rows of the tables that say what covers them."""
    for group, body in re.findall(r"^### ([^\n]+)\n(.+?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL):
        head, _, *lines = [_cells(line) for line in body.splitlines() if line.startswith("|")]
        for cells in lines:
            found = dict(zip(head, cells, strict=True))
            yield Row(
                group=group,
                promise=cells[0],
                tests=tuple(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", found["covered by"])),
                deviations=tuple(re.findall(r"\[(D\d+)\]", found["note"])),
                is_not_yet="Not yet: " in found["note"],
            )


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def deviations() -> dict[str, list[str]]:
    """Return the cells of each deviation by its number."""
    table = PAGE.partition("\n## Deviations\n")[2].partition("\n## ")[0]
    return {cells[0]: cells[1:] for cells in map(_cells, re.findall(r"^\| D\d+ .*$", table, re.MULTILINE))}


@functools.cache
def defined_in(path: str) -> frozenset[str]:
    """Return the names of the tests in a file, which is not imported."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


ROWS = list(rows())


def test_every_group_of_the_checklist_has_a_table() -> None:
    assert list(dict.fromkeys(row.group for row in ROWS)) == GROUPS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.group}: {row.promise}")
def test_a_row_has_a_test_a_deviation_or_a_not_yet(row: Row) -> None:
    assert row.tests or row.deviations or row.is_not_yet


@pytest.mark.parametrize("path", sorted({path for row in ROWS for path, _ in row.tests}))
def test_the_tests_that_are_named_exist(path: str) -> None:
    named = {name for row in ROWS for file, name in row.tests if file == path}
    assert named - defined_in(path) == set()


def test_everything_that_looks_like_a_test_is_read_as_one() -> None:
    """A name with a typing error must not pass as a remark."""
    assert PAGE.count("::") == sum(len(row.tests) for row in ROWS)


def test_the_deviations_that_are_named_are_those_that_are_explained() -> None:
    explained = deviations()
    assert {name for row in ROWS for name in row.deviations} == set(explained)
    assert list(explained) == [f"D{number}" for number in range(1, len(explained) + 1)]
    assert all(len(cells) == 2 and all(cells) for cells in explained.values())


def test_every_call_of_an_image_is_on_the_page() -> None:
    public = {name for name in dir(Image) if not name.startswith("_")}
    ours = {"check", "definition", "label", "local_sources", "misplaced", "steps", "swallowed_imports", "where"}
    assert [name for name in sorted(public - ours) if not re.search(rf"`(Image\.)?{name}\b", PAGE)] == []


def test_links_of_the_page_lead_to_a_file() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert [link for link in links if not (ROOT / "docs" / link).is_file()] == []
