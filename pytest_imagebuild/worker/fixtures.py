"""Fixtures of the host, as a test in a container sees them.

Runs in the container: imports the standard library and pytest only.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

__all__ = ["image_build", "image_container", "image_host"]

_SENTENCE = (
    "{name} is a fixture of the host and cannot be used inside a container: "
    "request it in a test that has no image marker."
)


@pytest.fixture
def image_build() -> NoReturn:
    """Build an image on the host. Not there in a container."""
    pytest.fail(_SENTENCE.format(name="image_build"), pytrace=False)


@pytest.fixture
def image_container() -> NoReturn:
    """Start a container on the host. Not there in a container."""
    pytest.fail(_SENTENCE.format(name="image_container"), pytrace=False)


@pytest.fixture(scope="session")
def image_host() -> str:
    """Return the name by which what listens on the host is reached. Fails in a container without a network."""
    name = os.environ.get("IMAGEBUILD_HOST", "")
    if not name:
        pytest.fail("The host cannot be reached from this container: it has no network.", pytrace=False)
    return name
