from __future__ import annotations

import importlib.util

import pytest
from poetry_letters import image, letter

pytestmark = pytest.mark.image(image)


def test_a_letter_begins_with_the_name() -> None:
    assert letter("ada lovelace") == "Dear Ada Lovelace,"


def test_developers_packages_are_not_installed() -> None:
    # pytest comes with its own where the image has none.
    found = importlib.util.find_spec("iniconfig")
    assert found is None or not str(found.origin).startswith("/usr/")
