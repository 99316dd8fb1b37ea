"""What lies outside of the root directory, and plugins that only the host has: both are as without a container."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from engines import EngineUnderTest
from inner import Inner
from once import once

FILES = {
    "pytest.ini": "[pytest]\n",
    "images.py": """
        from pytest_imagebuild import Image

        IMAGE = Image.from_registry("python:3.13-slim-trixie")
        """,
    "test_here.py": "def test_here(): pass\n",
    "../above/conftest.py": """
        import pytest


        @pytest.fixture
        def from_above():
            return "above"
        """,
    "../above/tests/beside.py": "X = 3\n",
    "../above/tests/data.txt": "data\n",
    "../above/tests/test_plain.py": """
        from pathlib import Path

        import beside


        def test_plain(from_above):
            assert (beside.X, from_above) == (3, "above")
            assert Path(__file__).with_name("data.txt").read_text() == "data\\n"
        """,
    "../above/tests/test_marked.py": """
        import os

        import pytest
        from pytest_imagebuild import Image

        pytestmark = pytest.mark.image(Image.from_registry("python:3.13-slim-trixie"))


        @pytest.mark.parametrize("number", [1, 2])
        def test_marked(number, from_above):
            assert from_above == "above"
            assert number == 1


        @pytest.mark.image(Image.from_registry("python:3.13-slim-trixie"), isolation="test")
        def test_alone(from_above):
            pass
        """,
    "../elsewhere/other.ini": "[pytest]\naddopts = -rA\nmarkers = ours: known by this file alone\n",
    "test_ours.py": "import pytest\n\n@pytest.mark.ours\ndef test_ours(): pass\n",
    "../for_the_ide/ide_plugin.py": """
        import json
        import os

        TOLD = []


        def pytest_collection_finish(session):
            TOLD.extend(["collected", item.nodeid, str(item.path), item.location[1]] for item in session.items)


        def pytest_runtest_logreport(report):
            TOLD.append([report.when, report.nodeid, report.outcome])


        def pytest_unconfigure():
            with open(os.environ["IDE_LISTENS_AT"], "w") as file:
                json.dump(TOLD, file)
        """,
}


@pytest.fixture
def inner(tmp_path: Path, engine: EngineUnderTest) -> Inner:
    """Return a project with folders beside it that belong to it."""
    return Inner(tmp_path, engine).write(FILES)


def _bring_in(inner: Inner) -> None:
    inner.write(
        {"conftest.py": FILES["../above/conftest.py"], "test_marked.py": FILES["../above/tests/test_marked.py"]}
    )


def _outcomes(text: str) -> list[str]:
    return sorted(re.findall(r"(?m)^(\S*::\S+ (?:PASSED|FAILED|ERROR))", text))


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "pytest.ini", "../above/tests"],
        ["-c", "pytest.ini", "../above", "test_here.py"],
        ["-c", "pytest.ini", "../above/tests/test_plain.py", "../above/tests/test_marked.py"],
        ["-c", "pytest.ini", "../above/tests/test_marked.py::test_marked"],
        ["-o", "testpaths=../above/tests"],
    ],
    ids=["a folder", "beside what is inside", "files", "a node id", "testpaths"],
)
@pytest.mark.parametrize("way", [[], ["--image=images.py:IMAGE"]], ids=["marker", "flag"])
def test_tests_outside_of_the_root_directory_have_the_outcomes_of_the_host(
    inner: Inner, common: Path, arguments: list[str], way: list[str]
) -> None:
    inside = inner.run("-v", "--rootdir=.", *arguments, *way)
    on_the_host = ["-v", "--rootdir=.", *arguments, "--no-image"]
    host = once(common, ("outside", on_the_host), lambda: inner.run(*on_the_host))
    assert _outcomes(inside.out) == _outcomes(host.out) != []
    assert inside.code == host.code
    assert "imagebuild (" in inside.out


@pytest.mark.parametrize("way", ["marker", "flag"])
def test_an_ini_file_may_lie_anywhere(inner: Inner, way: str) -> None:
    _bring_in(inner)
    chosen = ["--image=images.py:IMAGE", "test_ours.py"] if way == "flag" else ["test_marked.py", "-k", "alone"]
    ran = inner.run("--rootdir=.", "--strict-markers", "-c", "../elsewhere/other.ini", *chosen)
    assert "1 passed" in ran.out, ran.text
    assert "PASSED test_" in ran.out
    assert "imagebuild (" in ran.out


@pytest.mark.parametrize("given", ["-p", "PYTEST_PLUGINS"])
@pytest.mark.parametrize("way", [[], ["--image=images.py:IMAGE"]], ids=["marker", "flag"])
def test_a_plugin_that_only_the_host_has_sees_the_run_as_it_would_without_a_container(
    inner: Inner, tmp_path: Path, way: list[str], given: str
) -> None:
    _bring_in(inner)
    told = []
    for place in (way, ["--no-image"]):
        variables = {"PYTHONPATH": str(tmp_path / "for_the_ide"), "IDE_LISTENS_AT": str(tmp_path / "told.json")}
        arguments = [f"test_marked.py::test_marked[{number}]" for number in (2, 1)]
        if given == "-p":
            arguments = ["-p", "ide_plugin", *arguments]
        else:
            variables["PYTEST_PLUGINS"] = "ide_plugin"
        ran = inner.run(*arguments, *place, **variables)
        assert "1 failed, 1 passed" in ran.out, ran.text
        told.append(json.loads((tmp_path / "told.json").read_text("utf-8")))
    assert told[0] == told[1]
    assert len(told[0]) == 8


def test_a_plugin_that_nobody_has_is_an_error_as_ever(inner: Inner) -> None:
    ran = inner.run("-p", "nobody_has_it", "--image=images.py:IMAGE")
    assert 'Error importing plugin "nobody_has_it"' in ran.text


NAMED = {
    "pytest.ini": "[pytest]\n",
    "images.py": FILES["images.py"],
    "conftest.py": 'pytest_plugins = ["plugins.first"]\n',
    "plugins/__init__.py": "",
    "plugins/first.py": """
        import pytest

        pytest_plugins = ["plugins.second"]


        @pytest.fixture
        def first(second):
            return f"first and {second}"
        """,
    "plugins/second.py": """
        import pytest


        def pytest_addoption(parser):
            parser.addoption("--second", default="second")


        @pytest.fixture
        def second(request):
            return request.config.getoption("second")
        """,
    "tests/conftest.py": "",
    "tests/test_named.py": """
        import pytest
        from images import IMAGE


        @pytest.mark.image(IMAGE)
        def test_named(first):
            assert first == "first and second"
        """,
}


@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [([], "PASSED"), (["--second=other"], "FAILED"), (["--confcutdir=tests"], "ERROR")],
    ids=["as they are", "their options", "--confcutdir"],
)
@pytest.mark.parametrize("way", [[], ["--image=images.py:IMAGE"]], ids=["marker", "flag"])
def test_plugins_that_a_conftest_file_names_are_there(
    tmp_path: Path, engine: EngineUnderTest, arguments: list[str], outcome: str, way: list[str]
) -> None:
    files = dict(NAMED)
    if way:
        files["tests/test_named.py"] = files["tests/test_named.py"].replace("@pytest.mark.image(IMAGE)\n", "\n")
    project = Inner(tmp_path, engine).write(files)
    for place in (way, ["--no-image"]):
        ran = project.run("-v", *arguments, *place, "tests")
        assert _outcomes(ran.out) == [f"tests/test_named.py::test_named {outcome}"], ran.text
