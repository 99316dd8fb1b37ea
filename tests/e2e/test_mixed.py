"""Tests of the host and tests in containers in one run: what one kind sets up is torn down where it should be."""

from __future__ import annotations

from pathlib import Path

import pytest
from engines import EngineUnderTest
from inner import Inner, outcomes

PACKAGE = """
    import os

    import pytest


    def note(text):
        if "IMAGEBUILD_IMAGE" not in os.environ:
            with open("events.txt", "a") as file:
                print(text, file=file)


    @pytest.fixture(scope="package", autouse=True)
    def package():
        note("package +")
        yield
        note("package -")
        {end}
    """
HOST_TEST = """
    def test_{name}():
        with open("events.txt", "a") as file:
            print("test_{name}", file=file)
    """
PROJECT = {
    "pytest.ini": "[pytest]\n",
    "tests/one/__init__.py": "",
    "tests/one/conftest.py": PACKAGE.format(end=""),
    "tests/one/test_a.py": HOST_TEST.format(name="a"),
    "tests/one/test_b.py": """
        import pytest
        from pytest_imagebuild import Image


        @pytest.mark.image(Image.from_registry("python:3.13-slim-trixie"))
        def test_b():
            pass
        """,
    "tests/two/test_c.py": HOST_TEST.format(name="c"),
}


@pytest.fixture
def inner(tmp_path: Path, engine: EngineUnderTest) -> Inner:
    return Inner(tmp_path, engine).write(PROJECT)


def events(inner: Inner) -> list[str]:
    return (inner.folder / "events.txt").read_text("utf-8").split("\n")[:-1]


def test_fixtures_of_the_host_end_before_a_test_that_does_not_need_them(inner: Inner) -> None:
    ran = inner.run("-v")
    assert outcomes(ran) == {"test_a": "PASSED", "test_b": "PASSED", "test_c": "PASSED"}, ran.text
    assert events(inner) == ["package +", "test_a", "package -", "test_c"]


def test_a_fixture_that_fails_at_its_end_is_an_error_of_the_last_test_that_it_was_for(inner: Inner) -> None:
    end = 'assert "IMAGEBUILD_IMAGE" in os.environ, "no end on the host"'
    inner.write({"tests/one/conftest.py": PACKAGE.format(end=end)})
    ran = inner.run("-v", "-rA")
    assert "ERROR at teardown of test_b" in ran.out, ran.text
    assert "AssertionError: no end on the host" in ran.out
    assert "3 passed, 1 error" in ran.out


def test_a_test_without_its_gpu_leaves_nothing_set_up_either(inner: Inner) -> None:
    marked = PROJECT["tests/one/test_b.py"].replace('trixie")', 'trixie"), gpu="Voodoo2"')
    inner.write({"tests/one/test_b.py": marked})
    ran = inner.run("-v")
    assert "2 passed, 1 skipped" in ran.out, ran.text
    assert events(inner) == ["package +", "test_a", "package -", "test_c"]
