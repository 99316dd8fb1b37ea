"""Names of built images on this machine: a small file for each store of layers, `<cache folder>/names/<store>.json`.

A published image is a layer of its own, on no other: what rebuilds or removes the layers that it was made of does not
touch it, and housekeeping keeps it as long as it has a name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pytest_imagebuild.engines.layers import BuiltLayer, LayerLabels
from pytest_imagebuild.engines.protocol import Engine, Output
from pytest_imagebuild.engines.replacing import replace_text
from pytest_imagebuild.engines.uses import folder_name
from pytest_imagebuild.image.canonical import digest

__all__ = ["Names"]

_FORMAT = 1


class Names:
    """The names in one store of layers; `identity` is `Capabilities.identity`. Processes may change it at once."""

    def __init__(self, cache_dir: Path, identity: str) -> None:
        self._path = cache_dir.absolute() / "names" / f"{folder_name(identity)}.json"

    def all(self) -> Mapping[str, str]:
        """Return the key of the layer that each name stands for, sorted by name."""
        try:
            found = json.loads(self._path.read_bytes())
            names = found["names"] if found["format"] == _FORMAT else {}
            return {str(name): str(key) for name, key in sorted(names.items())}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def of(self, key: str) -> list[str]:
        """Return the names of a layer."""
        return [name for name, named in self.all().items() if named == key]

    def publish(self, name: str, layer: BuiltLayer, engine: Engine, run: str, output: Output) -> BuiltLayer:
        """Give a name to the image of a layer, and return the layer that holds it from now on."""
        from pytest_imagebuild.engines.work import Work  # noqa: PLC0415 - most runs publish nothing

        inputs = {"published": layer.labels.key, "generation": layer.labels.generation}
        key = digest(inputs)
        labels = LayerLabels(key=key, parent="", generation="", run=run, step=layer.labels.step, inputs=inputs)
        with self._changing():
            kept = engine.find(key) or engine.build(layer, Work(), labels, output)
            self._write({**self.all(), name: key})
        return kept

    def withdraw(self, name: str) -> bool:
        """Take a name away; say whether it was there. The image stays until housekeeping removes it."""
        with self._changing():
            names = dict(self.all())
            if names.pop(name, None) is None:
                return False
            self._write(names)
        return True

    @contextmanager
    def _changing(self) -> Iterator[None]:
        from filelock import FileLock  # noqa: PLC0415 - most runs make no change

        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._path.with_suffix(".lock")):
            yield

    def _write(self, names: Mapping[str, str]) -> None:
        replace_text(self._path, json.dumps({"format": _FORMAT, "names": dict(names)}, indent=1))
