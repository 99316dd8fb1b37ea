"""The word to the user about limits that this machine cannot hold."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pytest_imagebuild.dispatch.requests import SessionKey
from pytest_imagebuild.engines.protocol import Capabilities
from pytest_imagebuild.image.resources import shown_cores, shown_memory

__all__ = ["LimitWarning", "warn_of_limits"]


class LimitWarning(pytest.PytestWarning):
    """A limit of the image marker does not hold: the engine cannot enforce it on this machine."""


def warn_of_limits(item: pytest.Item, key: SessionKey, capabilities: Capabilities) -> None:
    """Warn, at the line of `item`, of each limit of its session that does not hold.

    Raises LimitWarning where the user's filters make an error of it.
    """
    for name, asked in _asked(key).items():
        if name in capabilities.unenforced:
            engine = capabilities.engine
            item.warn(LimitWarning(f"The {engine} engine cannot hold {asked} here. {capabilities.unenforced[name]}"))


def _asked(key: SessionKey) -> Mapping[str, str]:
    asked = {}
    if key.memory is not None:
        asked["memory"] = shown_memory(key.memory)
    if key.cpu is not None:
        asked["cpu"] = shown_cores(key.cpu)
    return asked
