"""The engine without a daemon: bubblewrap starts containers on overlay mounts of a layer store of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_imagebuild.engines.embedded.engine import EmbeddedEngine

__all__ = ["EmbeddedEngine"]


def __getattr__(name: str) -> object:
    # The programs of this package run on the standard library alone, which the engine does not.
    if name == "EmbeddedEngine":
        from pytest_imagebuild.engines.embedded.engine import EmbeddedEngine  # noqa: PLC0415

        return EmbeddedEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
