"""Why a layer was not in the cache: the inputs of its key beside those of the built layer that is most like it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.plan.keys import MISS_WORDS, KeyInputs

__all__ = ["miss_reason"]


def miss_reason(title: str, inputs: KeyInputs, layers: Iterable[BuiltLayer]) -> str:
    """Say which input differs from the nearest built layer's; `layers` are all that the engine has."""
    wanted = inputs.to_dict()
    by_key = {layer.labels.key: layer for layer in layers}
    below = _below(inputs, by_key)
    related = [
        layer
        for key, layer in by_key.items()
        if layer.labels.inputs
        and key not in below
        and (layer.labels.step == title or layer.labels.inputs.get("parent") == inputs.parent)
    ]
    nearest = max(related, key=lambda layer: (_alike(wanted, layer), layer.created), default=None)
    if nearest is None or (nearest.labels.step != title and not inputs.parent):
        return "it was never built on this engine"
    changed = [name for name in wanted if nearest.labels.inputs.get(name, "") != wanted[name]]
    if "step" in changed and nearest.labels.step != title:
        return f"the step changed: it was {nearest.labels.step}"
    return "; ".join(MISS_WORDS[name] for name in changed) or "the built layer is gone"


def _below(inputs: KeyInputs, layers: Mapping[str, BuiltLayer]) -> set[str]:
    """Return the keys of the layers that the missing one stands on: one step can make several layers."""
    keys: set[str] = set()
    key = inputs.parent
    while key in layers and key not in keys:
        keys.add(key)
        key = layers[key].labels.parent
    return keys


def _alike(wanted: dict[str, str], layer: BuiltLayer) -> int:
    return sum(layer.labels.inputs.get(name, "") == value for name, value in wanted.items())
