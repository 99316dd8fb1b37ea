"""What is kept, for how long nobody has used it, and what may go."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_imagebuild.engines.generations import lineage
from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.stored import StoredLayer
from pytest_imagebuild.engines.uses import LastUse

__all__ = ["Download", "KeptLayer", "downloads", "inventory"]

# As `engines/archives.py` and `build/uv.py` name what they have not finished.
_PARTIAL = re.compile(r"\.partial$|^uv-[^/]*-(amd64|arm64)\.\d+$")
_FOLDERS = {"bases": "base image made from Debian's packages", "tools": "tool for steps"}


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptLayer:
    """A layer with its last use, in seconds since the epoch: that of the layers above it is its own.

    `image` says which image it is the top of, and is empty for the others and for what no run of this machine used.
    """

    stored: StoredLayer
    last_use: float
    image: str

    @property
    def built(self) -> BuiltLayer:
        """The layer."""
        return self.stored.built

    @property
    def key(self) -> str:
        """The key of the layer."""
        return self.built.labels.key


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """A file of the cache folder that can be had again. Its last use is as near as the disk knows it.

    `partial` says that it was not finished.
    """

    path: Path
    what: str
    size: int
    last_use: float
    partial: bool


def inventory(stored: Sequence[StoredLayer], uses: Mapping[str, LastUse]) -> list[KeptLayer]:
    """Return every layer with its last use, the least recently used first, and none before one that stands on it."""
    by_key = {layer.built.labels.key: layer for layer in stored}
    parents = {key: layer.built.labels.parent for key, layer in by_key.items()}
    depths = {key: len(list(lineage(key, parents))) for key in by_key}
    last: dict[str, float] = {}
    for key in sorted(by_key, key=depths.__getitem__, reverse=True):
        built = by_key[key].built
        own = max(built.created, uses[key].time if key in uses else 0.0)
        last[key] = max(own, last.get(key, 0.0))
        parent = built.labels.parent
        last[parent] = max(last.get(parent, 0.0), last[key])
    kept = [
        KeptLayer(stored=layer, last_use=last[key], image=uses[key].image if key in uses else "")
        for key, layer in by_key.items()
    ]
    return sorted(kept, key=lambda layer: (layer.last_use, -depths[layer.key], layer.key))


def downloads(cache_dir: Path) -> list[Download]:
    """Return the files of the cache folder that can be had again, the least recently used first."""
    found = []
    for folder, what in _FOLDERS.items():
        for path in (cache_dir / folder).glob("*"):
            if path.suffix in {".lock", ".json"}:
                continue
            status = path.lstat()
            partial = bool(_PARTIAL.search(path.name))
            found.append(
                Download(
                    path=path,
                    what=f"broken-off {what}" if partial else what,
                    size=status.st_blocks * 512,
                    last_use=max(status.st_mtime, status.st_atime),
                    partial=partial,
                )
            )
    return sorted(found, key=lambda download: download.last_use)
