"""Remove what dead runs left behind."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, ImageNotFound

from pytest_imagebuild.engines.docker.connection import engine_errors
from pytest_imagebuild.engines.docker.marks import KEY, layer_from_list, tag
from pytest_imagebuild.engines.docker.work import remove
from pytest_imagebuild.engines.owner import LOCK

if TYPE_CHECKING:
    from docker import APIClient

    from pytest_imagebuild.engines.docker.store import Store
    from pytest_imagebuild.engines.owner import Owner
    from pytest_imagebuild.engines.protocol import BuiltLayer

__all__ = ["sweep"]

# A commit tags its image a moment after it made it; nothing younger is taken for a remnant.
_SETTLED_SECONDS = 3600

# A run that began before a forced build may still use what that replaced.
_REPLACED_SECONDS = 3600


def sweep(api: APIClient, store: Store, owner: Owner) -> int:
    """Remove containers, throw-away layers and untagged layers that nobody owns, and layers that no key leads to.

    Return how many.

    Where nothing is left over it only lists.
    """
    dead = _Dead(owner)
    with engine_errors("list what is left over"):
        containers = [found for found in api.containers(all=True, filters={"label": [LOCK]}) if dead.has(found)]
        images = api.images(all=True, filters={"label": [KEY]})
    for container in containers:
        remove(api, container["Id"])
    thrown_away = sorted((image for image in images if dead.has(image)), key=lambda image: -image["Created"])
    with engine_errors("remove throw-away layers"):
        removed = sum(_remove_image(api, image) for image in thrown_away)
    with engine_errors("remove replaced layers"):
        removed += sum(_remove_layer(api, layer) for layer in _replaced(images))
    gone = {image["Id"] for image in thrown_away}
    untagged = [image["Id"] for image in _untagged(images) if image["Id"] not in gone]
    return len(containers) + removed + sum(store.discard(image) for image in untagged)


class _Dead:
    """Remembers which owners are dead: taking the lock of one removes its file."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._known: dict[str, bool] = {}

    def has(self, found: Mapping[str, Any]) -> bool:
        labels = found.get("Labels") or {}
        lock = labels.get(LOCK, "")
        if lock not in self._known:
            self._known[lock] = self._owner.is_dead(labels)
        return self._known[lock]


def _remove_image(api: APIClient, image: Mapping[str, Any]) -> bool:
    try:
        for name in image.get("RepoTags") or [image["Id"]]:
            api.remove_image(name)
    except ImageNotFound:
        return False
    except APIError as error:
        if error.status_code == 409:
            return False
        raise
    return True


def _replaced(images: list[dict[str, Any]]) -> list[BuiltLayer]:
    """Return the layers that stand on a generation which a forced build replaced a while ago, the upper ones first."""
    found = (layer_from_list(image, "") for image in images)
    layers = {layer.labels.key: layer for layer in found if layer is not None}
    old = time.time() - _REPLACED_SECONDS

    def replaced(layer: BuiltLayer, below: BuiltLayer) -> bool:
        generation = layer.labels.inputs.get("generation", below.labels.generation)
        return generation != below.labels.generation and below.created < old

    chains = {key: list(_chain(layer, layers)) for key, layer in layers.items()}
    lost = [key for key, chain in chains.items() if any(itertools.starmap(replaced, itertools.pairwise(chain)))]
    return [layers[key] for key in sorted(lost, key=lambda key: -len(chains[key]))]


def _chain(layer: BuiltLayer, layers: Mapping[str, BuiltLayer]) -> Iterator[BuiltLayer]:
    """Yield a layer and those that it stands on, downwards, as far as they are there."""
    seen: set[str] = set()
    below: BuiltLayer | None = layer
    while below is not None and below.labels.key not in seen:
        yield below
        seen.add(below.labels.key)
        below = layers.get(below.labels.parent)


def _remove_layer(api: APIClient, layer: BuiltLayer) -> bool:
    # Without force and by its tag: what a container uses, or has another name, stays.
    return _remove_image(api, {"Id": layer.reference, "RepoTags": [tag(layer.labels.key, "")]})


def _untagged(images: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the layers without a name that no other image needs: remnants of a replacement that was cut short."""
    needed = {image.get("ParentId") for image in images}
    old = time.time() - _SETTLED_SECONDS
    return [
        image
        for image in images
        if not [name for name in image.get("RepoTags") or () if name != "<none>:<none>"]
        and image["Id"] not in needed
        and image["Created"] < old
    ]
