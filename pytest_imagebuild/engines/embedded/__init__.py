"""The engine without a daemon: bubblewrap starts containers on overlay mounts of a layer store of our own."""

from __future__ import annotations

from pytest_imagebuild.engines.embedded.engine import EmbeddedEngine

__all__ = ["EmbeddedEngine"]
