"""What a build needs to know of its run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pytest_imagebuild.engines.entries import FileEntry

__all__ = ["BuildMode", "BuildSettings", "StepNetwork"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepNetwork:
    """The host's network settings for steps: variables, files (a CA bundle), and the network to use."""

    environment: Mapping[str, str] = field(repr=False)  # an index or a proxy may have a password
    tools: tuple[FileEntry, ...]
    network: str


class BuildMode(NamedTuple):
    """How the cache is used. `force` rebuilds every layer once per run; `ignore_cache` neither reads nor writes it."""

    force: bool = False
    ignore_cache: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildSettings:
    """One run: its id, its cache folder, its mode, and the host's settings.

    `environment` is the host's, for the download of tools; it never reaches a container.
    """

    run: str
    cache_dir: Path
    mode: BuildMode
    network: StepNetwork
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def namespace(self) -> str:
        """Where layers are kept: empty for the cache proper, else the throw-away namespace of this run."""
        return self.run if self.mode.ignore_cache else ""
