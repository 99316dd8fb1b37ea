"""What layers stand on, and those that a forced build left behind: no key that is looked up leads to them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_imagebuild.engines.layers import BuiltLayer

__all__ = ["NO_CLAIMS", "Claims", "lineage", "may_go", "replaced"]

Claims = Mapping[str, float]
"""Since when living runs have claimed layers, by their keys, in seconds since the epoch (`Uses.claimed`)."""

NO_CLAIMS: Claims = MappingProxyType({})

_REPLACED_SECONDS = 3600
"""Between a commit and its tag, between a look-up and a claim, and for runs of other machines on one engine."""

_TICK_SECONDS = 1
"""Engines tell when a layer was made in whole seconds, downwards."""


def may_go(key: str, replaced_at: float, claimed: Claims) -> bool:
    """Say whether nobody uses the layer that has been replaced as that of a key then, in seconds since the epoch.

    A run that began before may still use what was replaced, as long as it goes on.
    """
    if replaced_at >= time.time() - _REPLACED_SECONDS:
        return False
    return claimed.get(key, float("inf")) > replaced_at + _TICK_SECONDS


def replaced(found: Iterable[BuiltLayer], claimed: Claims = NO_CLAIMS) -> list[BuiltLayer]:
    """Return the layers that stand on a generation which was replaced, and may go, the upper ones first."""
    layers = {layer.labels.key: layer for layer in found}

    def lost(layer: BuiltLayer, below: BuiltLayer) -> bool:
        generation = layer.labels.inputs.get("generation", below.labels.generation)
        return generation != below.labels.generation

    def goes(key: str) -> bool:
        pairs = itertools.pairwise(chains[key])
        return any(lost(layer, below) and may_go(key, below.created, claimed) for layer, below in pairs)

    parents = {key: layer.labels.parent for key, layer in layers.items()}
    chains = {key: [layers[below] for below in lineage(key, parents)] for key in layers}
    return [layers[key] for key in sorted(filter(goes, layers), key=lambda key: -len(chains[key]))]


def lineage(key: str, parents: Mapping[str, str]) -> Iterator[str]:
    """Yield a key and those that it stands on, downwards, as far as `parents`, of each key, knows them."""
    seen: set[str] = set()
    while key in parents and key not in seen:
        yield key
        seen.add(key)
        key = parents[key]
