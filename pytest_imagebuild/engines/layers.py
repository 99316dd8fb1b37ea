"""What an engine stores: base images, the layers on them, and what nothing needs any longer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

__all__ = ["BasePin", "BuiltLayer", "LayerIndex", "LayerLabels"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BasePin:
    """What a base reference stands for: a registry digest, or the digest of a bootstrapped archive.

    `digest` is `sha256:` and 64 hex digits; `source` is `registry`, `bootstrap`, or `local` for an image that the
    user made in the engine himself (its digest is the id of the image, and means something in that engine only).
    `scratch` is no image at all: no files, an empty configuration, and no digest.
    """

    digest: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerLabels:
    """What a built layer carries in the engine, so that the engine is the only index.

    `key` is the layer key; `generation` is empty unless a forced build replaced the layer; `run` is the
    run that built it; `namespace` is empty in the cache proper, else the run that owns the throw-away
    layer. `inputs` are digests or short texts of what the key is made of, to explain a miss.
    """

    key: str
    parent: str
    generation: str
    run: str
    namespace: str = ""
    step: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltLayer:
    """A finished layer in an engine. `reference` is what the engine starts a container of.

    `size` is bytes including the layers below, `created` seconds since the epoch.
    """

    labels: LayerLabels
    reference: str
    size: int
    created: float


class LayerIndex(Mapping[str, BuiltLayer]):
    """Layers by their keys, each read when it is first asked for: a run asks for few of those that are there.

    `find` reads one; `keys_now` returns every key.
    """

    def __init__(self, find: Callable[[str], BuiltLayer | None], keys_now: Callable[[], Iterable[str]]) -> None:
        self._find = find
        self._keys_now = keys_now
        self._found: dict[str, BuiltLayer | None] = {}

    def __getitem__(self, key: str) -> BuiltLayer:
        if key not in self._found:
            self._found[key] = self._find(key)
        layer = self._found[key]
        if layer is None:
            raise KeyError(key)
        return layer

    def __iter__(self) -> Iterator[str]:
        return (key for key in self._keys_now() if key in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)
