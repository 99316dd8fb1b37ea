"""The tables of the README name all that there is, and nothing that there is not."""

from __future__ import annotations

import argparse
import ast
import inspect
import re
from pathlib import Path

import pytest

import pytest_imagebuild
from pytest_imagebuild import Image, Secret, cli, hookspecs
from pytest_imagebuild.dispatch import requests
from pytest_imagebuild.options import INI_KEYS

from .readme import section


def download(name: str) -> None:
    """Stand for a function of the user's."""


def names(title: str, pattern: str, table: int = 0) -> set[str]:
    """Return what `pattern` finds in the first cells of a table."""
    return {name for cell in section(title).first_cells(table) for name in re.findall(pattern, cell)}


def test_the_calls_of_a_chain() -> None:
    public = {name for name, value in inspect.getmembers(Image, callable) if not name.startswith("_")}
    assert names("Writing an image", r"`(?:Image)?\.(\w+)\(") == public - {"check", "from_id"}


ACTING = (".build(", ".publish(", ".hydrate(")
DESCRIBING = [call for call in section("Writing an image").first_cells() if not call.strip("`").startswith(ACTING)]


@pytest.mark.parametrize("call", DESCRIBING)
def test_a_call_can_be_written_as_the_table_has_it(call: str) -> None:
    code = call.strip("`").replace("function, …", "lambda image: image")
    image = Image.from_registry("debian:trixie")
    assert eval(
        code if code.startswith("Image.") else f"image{code}",
        {"Image": Image, "Secret": Secret, "image": image, "download": download},
    )


def test_the_arguments_of_the_marker() -> None:
    assert names("The marker", r"`(\w+)=") == set(requests.ARGUMENTS)


def test_the_fixtures() -> None:
    from pytest_imagebuild import plugin

    assert names("Fixtures", r"`(\w+)`") == {name for name in plugin.__all__ if name.startswith("image_")}


def test_the_flags(pytester: pytest.Pytester) -> None:
    offered = set(re.findall(r"^  (--[a-z-]+)", _help(pytester), re.MULTILINE))
    assert names("Options", r"`(--[a-z-]+)") == offered


def _help(pytester: pytest.Pytester) -> str:
    result = pytester.runpytest_inprocess("--help")
    return result.stdout.str().partition("tests in containers:\n")[2].partition("\n\n")[0]


def test_the_ini_keys() -> None:
    assert names("Options", r"`(\w+)`", table=1) == set(INI_KEYS)


def test_the_subcommands() -> None:
    parser = cli._parser()
    actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    assert names("The imagebuild command", r"`imagebuild (\w+)") == set(actions[0].choices)


def test_the_hooks() -> None:
    offered = {
        f"{name}({', '.join(inspect.signature(hook).parameters)})"
        for name, hook in vars(hookspecs).items()
        if name.startswith("pytest_")
    }
    assert names("Hooks", r"`(\w+\([\w, ]*\))`") == offered


@pytest.mark.parametrize("message", section("When something fails").first_cells())
def test_a_message_is_one_that_the_package_has(message: str) -> None:
    parts = [re.escape(part) for part in message.strip("`").split("…")]
    pattern = re.compile(".*".join(parts), re.DOTALL)
    assert any(pattern.search(text) for text in _texts())


def _texts() -> list[str]:
    """Return the texts in the code of the package, with `…` in the place of what is filled in."""
    package = Path(str(pytest_imagebuild.__file__)).parent
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in package.rglob("*.py")]
    return [_text(node) for tree in trees for node in ast.walk(tree) if isinstance(node, (ast.JoinedStr, ast.Constant))]


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(value) for value in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else "…"


def test_links_within_the_page_have_their_heading() -> None:
    from .readme import README, sections

    anchors = {re.sub(r"[^a-z0-9 -]", "", found.title.lower()).replace(" ", "-") for found in sections()}
    assert set(re.findall(r"\]\(#([^)]+)\)", README.read_text())) <= anchors
