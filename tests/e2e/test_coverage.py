"""Coverage: measured inside, reported on the host, as one with what ran there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from engines import EngineUnderTest, on_one_engine
from inner import Inner, Ran

pytest.importorskip("pytest_cov")

PROJECT = {
    "pytest.ini": "[pytest]\npythonpath = src .\n",
    ".coveragerc": "[run]\nbranch = true\npatch = subprocess\n",
    "images.py": """
        from pytest_imagebuild import Image

        BARE = Image.from_registry("python:3.13-slim-trixie")
        IMAGE = BARE.uv_pip_install("coverage==7.17.3")
        BOTH = BARE.uv_pip_install("coverage==7.17.3", "pytest-cov==7.1.0")
        """,
    "src/shop/__init__.py": """
        def price(number):
            if number > 3:
                return number * 2
            return number


        def on_the_host():
            return 1


        def by_nobody():
            return 2
        """,
    "src/shop/tool.py": """
        import sys

        if len(sys.argv) > 5:
            sys.exit("too many")
        """,
    "tests/test_inside.py": """
        import subprocess
        import sys

        import pytest
        from images import IMAGE
        from shop import price


        @pytest.mark.image(IMAGE)
        def test_price():
            assert price(1) == 1


        @pytest.mark.image(IMAGE)
        def test_child_process():
            subprocess.run([sys.executable, "src/shop/tool.py"], check=True)


        @pytest.mark.image(IMAGE, isolation="test")
        def test_alone():
            assert price(5) == 10
        """,
    "tests/test_outside.py": """
        from shop import on_the_host


        def test_outside():
            assert on_the_host() == 1
        """,
    "tests/test_unmarked.py": """
        import pytest
        from shop import by_nobody, price


        def test_low():
            assert price(1) == 1


        @pytest.mark.no_cover
        def test_not_measured():
            assert by_nobody() == 2
        """,
}
MARKED = ("tests/test_inside.py", "tests/test_outside.py")


@pytest.fixture
def inner(tmp_path: Path, engine: EngineUnderTest) -> Inner:
    return Inner(tmp_path, engine).write(PROJECT)


def rows(ran: Ran) -> dict[str, str]:
    """Return what the report says of each file behind its numbers: the cover, then the missing lines."""
    found = re.findall(r"(?m)^(src/\S+) +(?:\d+ +)+(\d+%.*)$", ran.out)
    return {file: re.sub(" +", " ", rest).strip() for file, rest in found}


@pytest.mark.parametrize("distributed", [(), ("-n2",)], ids=["one process", "xdist"])
def test_lines_of_both_sides_are_one_report(inner: Inner, distributed: tuple[str, ...]) -> None:
    ran = inner.run("--cov=src", "--cov-report=term-missing", *distributed, *MARKED)
    assert "4 passed" in ran.out, ran.text
    # The branch is taken by an isolated test, the script runs in a child process.
    assert rows(ran) == {"src/shop/__init__.py": "90% 12", "src/shop/tool.py": "60% 4"}, ran.text
    assert "warning" not in ran.out.lower()
    assert sorted(path.name for path in inner.folder.glob(".coverage*")) == [".coverage", ".coveragerc"]


def test_a_suite_in_an_image_is_measured(inner: Inner) -> None:
    ran = inner.run("--image=images.py:IMAGE", "--cov=src", "--cov-report=term-missing", "tests/test_unmarked.py")
    assert "2 passed" in ran.out, ran.text
    assert rows(ran)["src/shop/__init__.py"].endswith("3, 8, 12"), ran.text


@on_one_engine()
def test_a_pytest_cov_of_the_image_does_not_measure_twice(inner: Inner) -> None:
    ran = inner.run("--image=images.py:BOTH", "--cov=src", "--cov-report=term-missing", "tests/test_unmarked.py")
    assert "2 passed" in ran.out, ran.text
    assert rows(ran)["src/shop/__init__.py"].endswith("3, 8, 12"), ran.text


@on_one_engine()
def test_contexts_name_the_tests(inner: Inner) -> None:
    import sqlite3

    inner.run("--cov=src", "--cov-context=test", *MARKED)
    with sqlite3.connect(inner.folder / ".coverage") as data:
        contexts = {context for (context,) in data.execute("select context from context")}
    assert {"tests/test_inside.py::test_price|run", "tests/test_outside.py::test_outside|run"} <= contexts


@on_one_engine()
def test_an_image_without_coverage_says_what_to_add(inner: Inner) -> None:
    ran = inner.run("--image=images.py:BARE", "--cov=src", "tests/test_unmarked.py")
    assert "coverage is not installed in the image, so --cov sees nothing of what runs inside." in ran.out
    assert 'Add it to the image: .uv_pip_install("coverage").' in ran.out


@on_one_engine()
def test_files_of_the_image_are_said_to_be_left_out(inner: Inner) -> None:
    inner.write({"tests/test_unmarked.py": "import json\n\n\ndef test_it():\n    json.loads('{}')\n"})
    ran = inner.run("--image=images.py:IMAGE", "--cov=json", "tests/test_unmarked.py")
    assert re.search(r"imagebuild: coverage of \d+ files is left out: only images have them", ran.out), ran.text
