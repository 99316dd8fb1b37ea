"""Notes of the files of a project that a layer has: small files, `<cache folder>/projects/<store>/<key>.json`.

What an engine does not know itself. Whoever writes the note of a key has claimed the key (`engines/uses.py`) and holds
its lock; housekeeping removes the notes of layers that are gone, while nobody can claim them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.replacing import replace_text
from pytest_imagebuild.engines.uses import folder_name

__all__ = ["KeptFiles", "Notes"]

_FORMAT = 1


class KeptFiles(NamedTuple):
    """The files in a layer, by their absolute paths, as they were when they were read (`session/kept.py`).

    `reference` is the layer, "" where this project cannot be kept in one; `below` is the layer that it stands on. An
    empty status is that of a file of which nobody can tell whether it has changed since.
    """

    reference: str
    below: str
    files: Mapping[str, tuple[int, ...]] = MappingProxyType({})


class Notes:
    """The notes on the layers of one store; `identity` is `Capabilities.identity`."""

    def __init__(self, cache_dir: Path, identity: str) -> None:
        self._folder = cache_dir.absolute() / "projects" / folder_name(identity)

    def read(self, key: str) -> KeptFiles | None:
        """Return the note of a key. One that cannot be read is none."""
        try:
            noted = json.loads(self._path(key).read_bytes())
            if noted["format"] != _FORMAT:
                return None
            files = {str(name): tuple(status) for name, status in noted["files"].items()}
            return KeptFiles(reference=str(noted["reference"]), below=str(noted["below"]), files=files)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, key: str, kept: KeptFiles) -> None:
        """Write the note of a key, where there is room. Without it, the layer is made anew."""
        noted = {"format": _FORMAT, "reference": kept.reference, "below": kept.below, "files": dict(kept.files)}
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_text(self._path(key), json.dumps(noted))

    def drop(self, key: str) -> None:
        """Remove the note of a key, and what a process that died has written of one."""
        for path in (self._path(key), *self._unfinished(key)):
            path.unlink(missing_ok=True)

    def lost(self, layers: Mapping[str, BuiltLayer]) -> list[str]:
        """Return the keys of the notes that say nothing of any of `layers`, which are by their keys."""
        there = {layer.reference for layer in layers.values()}
        return [key for key in self._keys() if not self._is_of(key, layers, there)]

    def _is_of(self, key: str, layers: Mapping[str, BuiltLayer], there: Collection[str]) -> bool:
        kept = self.read(key)
        if kept is None or any(self._unfinished(key)):
            return False
        return kept.below in there if not kept.reference else key in layers and layers[key].reference == kept.reference

    def _keys(self) -> list[str]:
        paths = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted({path.name.lstrip(".").partition(".")[0] for path in paths})

    def _unfinished(self, key: str) -> Iterator[Path]:
        return self._folder.glob(f".{key}.*")

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"
