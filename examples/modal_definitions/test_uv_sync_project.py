from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
from uv_sync_project import PROJECT, front_page, image

pytestmark = pytest.mark.image(image)


def test_the_sources_of_the_project_run_on_its_packages() -> None:
    assert front_page() == "1,234,567 visitors are expected"


@pytest.mark.parametrize("name", ["humanize", "iniconfig"])
def test_packages_are_those_of_the_lockfile(name: str) -> None:
    locked = re.search(rf'name = "{name}"\nversion = "(.*)"', Path(PROJECT, "uv.lock").read_text())
    assert locked
    assert importlib.metadata.version(name) == locked[1]
