"""A suite that passes in an environment passes identically through the plugin in an image of that environment."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from suites import SUITES, Both, Suite, run_both

ENGINES = ("embedded", "docker")


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the cache folder of all suites."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, cache_dir: Path) -> dict[str, str]:
    """Return the variables that choose an engine."""
    if request.param == "docker" and "DOCKER_HOST" not in os.environ:
        pytest.fail("There is no Docker here: .ci/with-ground starts one.")
    return {"IMAGEBUILD_ENGINE": request.param, "IMAGEBUILD_CACHE_DIR": str(cache_dir)}


@pytest.fixture(scope="module", params=SUITES, ids=[suite.name for suite in SUITES])
def both(request: pytest.FixtureRequest, engine: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Return what came of one suite by plain pytest and through the plugin."""
    suite: Suite = request.param
    return run_both(suite, tmp_path_factory.mktemp(suite.name), engine)


def _outcomes(root: ET.Element) -> list[tuple[str, str, tuple[str, ...]]]:
    return [
        (case.attrib["classname"], case.attrib["name"], tuple(child.tag for child in case))
        for case in root.iter("testcase")
    ]


def test_every_test_has_the_same_outcome(both: Both) -> None:
    assert len(_outcomes(both.plain)) > 40, both.plain_text
    assert both.plain[0].attrib["errors"] == "0", both.plain_text
    assert _outcomes(both.plugin) == _outcomes(both.plain), both.plugin_text


def test_the_junit_files_differ_in_times_only(both: Both) -> None:
    assert _lines(both.plugin) == _lines(both.plain)


def test_the_suite_ran_inside(both: Both) -> None:
    assert "imagebuild (" in both.plugin_text
    assert "imagebuild (" not in both.plain_text


def _lines(root: ET.Element) -> list[str]:
    """Return a JUnit file line by line, without the addresses of objects in the texts of failures."""
    text = re.sub(r"\b0x[0-9a-f]{6,}\b", "0x…", ET.canonicalize(ET.tostring(root)))
    return text.replace("><", ">\n<").splitlines()
