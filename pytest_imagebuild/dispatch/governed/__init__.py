"""Tests without a marker that run in an image all the same: collected inside, with stand-ins for them here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_imagebuild.dispatch.governed.collection import GovernedCollection
    from pytest_imagebuild.dispatch.run import Run

__all__ = ["govern"]


def govern(config: pytest.Config, run: Callable[[], Run]) -> GovernedCollection:
    """Register what collects tests in the images of their folders. Raises pytest.UsageError."""
    if not hasattr(pytest, "Directory"):
        raise pytest.UsageError(
            f"--image and the ini key image need pytest 8 or newer on the host, found {pytest.__version__}. "
            "Tests with an image marker run with this one too."
        )
    from pytest_imagebuild.dispatch.governed.collection import GovernedCollection  # noqa: PLC0415 - needs pytest 8
    from pytest_imagebuild.dispatch.governed.places import Places  # noqa: PLC0415
    from pytest_imagebuild.dispatch.invocation import own_arguments, parsed_so_far  # noqa: PLC0415
    from pytest_imagebuild.options import named_images  # noqa: PLC0415

    with parsed_so_far(config):
        places = Places.load(named_images(config))
    # xdist hands options on to its workers, but not the command line.
    config.option.image_arguments = own_arguments(config)
    governed = GovernedCollection(config, places, run)
    config.pluginmanager.register(governed, "imagebuild-governed")
    return governed
