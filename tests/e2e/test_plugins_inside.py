"""Plugins that are installed in the image, and not here, do inside what they do."""

from __future__ import annotations

import re

import pytest
from engines import EngineUnderTest, on_one_engine
from inner import Inner, Ran, failure_of, outcomes

PROJECT = {
    "pytest.ini": "[pytest]\nasyncio_mode = auto\ntimeout = 20\naddopts = --strict-markers --strict-config\n",
    "images.py": """
        from pytest_imagebuild import Image

        IMAGE = Image.from_registry("python:3.13-slim-trixie").uv_pip_install(
            "pytest-timeout==2.4.0", "pytest-rerunfailures==16.7", "pytest-randomly==5.1.0", "pytest-asyncio==1.5.0",
            "hypothesis==6.170.15", "pytest-benchmark==5.3.1", "pytest-mock==3.17.0", "anyio==4.16.0", "trio==0.35.0",
        )
        """,
    "tests/test_plugins.py": """
        import asyncio
        import os
        import random
        import time

        import pytest
        from hypothesis import given
        from hypothesis import strategies as st

        CALLS = []


        @pytest.mark.timeout(1)
        def test_timeout():
            time.sleep(30)


        @pytest.mark.flaky(reruns=2)
        def test_flaky():
            CALLS.append(1)
            assert len(CALLS) == 2


        @pytest.fixture
        async def number():
            await asyncio.sleep(0)
            yield 3


        async def test_asyncio(number):
            assert number == 3


        @pytest.mark.anyio
        async def test_anyio():
            pass


        @given(st.integers())
        def test_hypothesis(number):
            assert number < 1000


        def test_benchmark(benchmark):
            benchmark(lambda: sum(range(10)))


        def test_mock(mocker):
            mocker.patch("os.getcwd", return_value="/nowhere")
            assert os.getcwd() == "/nowhere"


        def test_randomly():
            print("seeded:", random.random())
        """,
}


@pytest.fixture(scope="module")
def inner(tmp_path_factory: pytest.TempPathFactory, engine: EngineUnderTest) -> Inner:
    return Inner(tmp_path_factory.mktemp("plugins"), engine).write(PROJECT)


@pytest.fixture(scope="module")
def ran(inner: Inner) -> Ran:
    """Return a run with options that only the image knows."""
    return inner.run("--image=images.py:IMAGE", "-v", "-rA", "--randomly-seed=7", "--hypothesis-show-statistics")


def test_each_test_has_the_outcome_that_its_plugin_gives_it(ran: Ran) -> None:
    expected = dict.fromkeys(
        ["test_asyncio", "test_anyio[asyncio]", "test_anyio[trio]", "test_benchmark", "test_mock", "test_randomly"],
        "PASSED",
    )
    expected |= {"test_timeout": "FAILED", "test_hypothesis": "FAILED"}
    found = outcomes(ran)
    assert {name: found.get(name) for name in expected} == expected, ran.text
    assert "2 failed, 7 passed, 1 rerun" in ran.out


def test_a_timeout_and_a_counterexample_are_in_the_failures(ran: Ran) -> None:
    assert "Failed: Timeout (>1.0s) from pytest-timeout." in failure_of(ran, "test_timeout")
    assert "number=1000" in failure_of(ran, "test_hypothesis")


def test_a_flaky_test_is_run_again(ran: Ran) -> None:
    assert "tests/test_plugins.py::test_flaky RERUN" in ran.out


def test_their_lines_of_the_header_are_shown(ran: Ran) -> None:
    assert "inside: Using --randomly-seed=7" in ran.lines
    assert "inside: timeout: 20.0s" in ran.lines


def test_their_parts_of_the_summary_are_shown(ran: Ran) -> None:
    assert re.search(r"(?m)^-+ benchmark: 1 tests -+$", ran.out)
    assert re.search(r"(?m)^=+ Hypothesis Statistics =+$", ran.out)
    assert "- Stopped because nothing left to do" in ran.out


def test_the_order_and_the_numbers_follow_the_seed(inner: Inner, ran: Ran) -> None:
    again = inner.run("--image=images.py:IMAGE", "-v", "-rA", "--randomly-seed=7", "-p", "no:cacheprovider")
    assert list(outcomes(again)) == list(outcomes(ran))
    assert re.findall("seeded: .*", again.out) == re.findall("seeded: .*", ran.out) != []
    other = inner.run("--image=images.py:IMAGE", "-v", "-rA", "--randomly-seed=8")
    assert re.findall("seeded: .*", other.out) != re.findall("seeded: .*", ran.out)


def test_xdist_shows_their_summary_too(inner: Inner) -> None:
    ran = inner.run("--image=images.py:IMAGE", "-n2", "-k", "hypothesis or mock", "--hypothesis-show-statistics")
    assert "1 failed, 1 passed" in ran.out, ran.text
    assert "- Stopped because nothing left to do" in ran.out


@pytest.mark.parametrize("flag", ["--fixtures", "--fixtures-per-test"])
@on_one_engine()
def test_their_fixtures_are_shown(inner: Inner, flag: str) -> None:
    ran = inner.run("--image=images.py:IMAGE", flag, "tests")
    assert ran.code == 0, ran.text
    assert "mocker" in ran.out
    assert re.search(r"(?m)^number -- (?:\S*/)?tests/test_plugins.py:\d+|^number$", ran.out), ran.text
    assert "ModuleNotFoundError" not in ran.text
    assert inner.engine.containers() == []
