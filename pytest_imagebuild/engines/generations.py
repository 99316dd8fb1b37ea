"""Layers that a forced build left behind: no key that is looked up leads to them any more."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping

from pytest_imagebuild.engines.protocol import BuiltLayer

__all__ = ["replaced"]

# A run that began before a forced build may still use what that replaced.
_REPLACED_SECONDS = 3600


def replaced(found: Iterable[BuiltLayer]) -> list[BuiltLayer]:
    """Return the layers that stand on a generation which was replaced an hour ago, the upper ones first."""
    layers = {layer.labels.key: layer for layer in found}
    old = time.time() - _REPLACED_SECONDS

    def lost(layer: BuiltLayer, below: BuiltLayer) -> bool:
        generation = layer.labels.inputs.get("generation", below.labels.generation)
        return generation != below.labels.generation and below.created < old

    chains = {key: list(_chain(layer, layers)) for key, layer in layers.items()}
    keys = [key for key, chain in chains.items() if any(itertools.starmap(lost, itertools.pairwise(chain)))]
    return [layers[key] for key in sorted(keys, key=lambda key: -len(chains[key]))]


def _chain(layer: BuiltLayer, layers: Mapping[str, BuiltLayer]) -> Iterator[BuiltLayer]:
    """Yield a layer and those that it stands on, downwards, as far as they are there."""
    seen: set[str] = set()
    below: BuiltLayer | None = layer
    while below is not None and below.labels.key not in seen:
        yield below
        seen.add(below.labels.key)
        below = layers.get(below.labels.parent)
