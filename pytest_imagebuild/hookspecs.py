"""Hooks that the plugin offers to conftest files and other plugins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_imagebuild.image.chain import Image


@pytest.hookspec()
def pytest_image_environment(config: pytest.Config, image: Image) -> Mapping[str, str] | None:
    """Return variables for every session container of `image`, beside those of the marker's `env=`, which win.

    Called on the host once per session, before its container starts. Values do not enter layers or keys.
    """


@pytest.hookspec()
def pytest_image_built(config: pytest.Config, image: Image, key: str, reference: str) -> None:
    """Hear that an image of this run is there, built or reused.

    `key` is its layer key, `reference` what the engine knows it by (on the docker engine an image id).
    """
