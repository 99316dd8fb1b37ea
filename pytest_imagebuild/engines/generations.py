"""What layers stand on, and those that a forced build left behind: no key that is looked up leads to them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_imagebuild.engines.layers import BuiltLayer

__all__ = ["lineage", "replaced"]

# A run that began before a forced build may still use what that replaced.
_REPLACED_SECONDS = 3600


def replaced(found: Iterable[BuiltLayer]) -> list[BuiltLayer]:
    """Return the layers that stand on a generation which was replaced an hour ago, the upper ones first."""
    layers = {layer.labels.key: layer for layer in found}
    old = time.time() - _REPLACED_SECONDS

    def lost(layer: BuiltLayer, below: BuiltLayer) -> bool:
        generation = layer.labels.inputs.get("generation", below.labels.generation)
        return generation != below.labels.generation and below.created < old

    parents = {key: layer.labels.parent for key, layer in layers.items()}
    chains = {key: [layers[below] for below in lineage(key, parents)] for key in layers}
    keys = [key for key, chain in chains.items() if any(itertools.starmap(lost, itertools.pairwise(chain)))]
    return [layers[key] for key in sorted(keys, key=lambda key: -len(chains[key]))]


def lineage(key: str, parents: Mapping[str, str]) -> Iterator[str]:
    """Yield a key and those that it stands on, downwards, as far as `parents`, of each key, knows them."""
    seen: set[str] = set()
    while key in parents and key not in seen:
        yield key
        seen.add(key)
        key = parents[key]
