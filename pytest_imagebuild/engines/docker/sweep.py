"""Remove what dead runs left behind."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_imagebuild.engines.docker.connection import engine_errors
from pytest_imagebuild.engines.docker.housekeeping import Images, names
from pytest_imagebuild.engines.docker.marks import KEY, layer_from_list, tag
from pytest_imagebuild.engines.docker.removing import remove_container, remove_image
from pytest_imagebuild.engines.docker.volumes import discard
from pytest_imagebuild.engines.generations import NO_CLAIMS, Claims, may_go, replaced
from pytest_imagebuild.engines.owner import LOCK
from pytest_imagebuild.engines.stored import Remnant

if TYPE_CHECKING:
    from docker import APIClient

    from pytest_imagebuild.engines.docker.pulled import Pulled
    from pytest_imagebuild.engines.layers import BuiltLayer
    from pytest_imagebuild.engines.owner import Owner

__all__ = ["left_over", "remove_remnant", "sweep", "unused_bases"]

# Between a pull and the layer on it.
_SETTLED_SECONDS = 3600

_CONTAINER, _IMAGE, _VOLUME = "container", "image", "volume"


def sweep(api: APIClient, owner: Owner, claimed: Claims = NO_CLAIMS) -> int:
    """Remove containers, throw-away layers and untagged layers that nobody owns, and layers that no key leads to.

    Return how many. Where nothing is left over it only lists.
    """
    return sum(remove_remnant(api, remnant) is not None for remnant in left_over(api, owner, claimed))


def left_over(api: APIClient, owner: Owner, claimed: Claims = NO_CLAIMS) -> list[Remnant]:
    """Return what dead runs and replaced generations left: containers before volumes, upper layers before lower.

    What living runs have claimed stays.
    """
    dead = _Dead(owner)
    with engine_errors("list what is left over"):
        containers = [found for found in api.containers(all=True, filters={"label": [LOCK]}) if dead.has(found)]
        volumes = api.volumes(filters={"label": [LOCK]}).get("Volumes") or ()
        images = api.images(all=True, filters={"label": [KEY]})
    thrown_away = sorted((image for image in images if dead.has(image)), key=lambda image: -image["Created"])
    gone = {image["Id"] for image in thrown_away}
    sizes = {image["Id"]: int(image["Size"]) for image in images}
    below = {image["Id"]: sizes.get(image.get("ParentId"), 0) for image in images}

    def remnant(what: str, identity: str, name: str) -> Remnant:
        return Remnant(name=f"{_IMAGE} {name}", what=what, size=max(0, sizes[identity] - below[identity]))

    return [
        *(Remnant(name=f"{_CONTAINER} {found['Id']}", what="a dead run's container", size=0) for found in containers),
        *(
            Remnant(name=f"{_VOLUME} {found['Name']}", what="a dead run's volume", size=0)
            for found in volumes
            if dead.has(found)
        ),
        *(
            remnant("a dead run's layer", image["Id"], name)
            for image in thrown_away
            for name in names(image) or [image["Id"]]
        ),
        # By its tag: what has another name stays.
        *(
            remnant("a layer on a replaced one", layer.reference, tag(layer.labels.key, ""))
            for layer in replaced(_layers(images), claimed)
        ),
        *(
            remnant("a layer without a name", image["Id"], image["Id"])
            for image in _untagged(images, claimed)
            if image["Id"] not in gone
        ),
    ]


def unused_bases(api: APIClient, pulled: Pulled) -> list[Remnant]:
    """Return the base images that we brought and on which nothing stands; forget those that are gone."""
    images = Images.read(api, pulled)
    digests = {name.partition("@")[2] for image in images.by_id.values() for name in image.get("RepoDigests") or ()}
    for digest in pulled.digests(settled=True):
        if digest not in digests:
            pulled.forget(digest)
    fresh = set(pulled.digests()) - set(pulled.digests(settled=True))
    old = time.time() - _SETTLED_SECONDS
    return [
        Remnant(name=f"{_IMAGE} {name}", what="a base image that no layer stands on", size=int(image["Size"]))
        for identity, image in images.by_id.items()
        if images.brought(identity) and not images.needed(identity)
        if image["Created"] < old or not names(image)
        for name in names(image) or image.get("RepoDigests") or ()
        if name.partition("@")[2] not in fresh
    ]


def remove_remnant(api: APIClient, remnant: Remnant) -> int | None:
    """Remove it by the name that it was listed under; return the bytes freed, None where it stays or was gone."""
    kind, _, name = remnant.name.partition(" ")
    if kind == _CONTAINER:
        remove_container(api, name)
        return remnant.size
    if kind == _VOLUME:
        return remnant.size if discard(api, name) else None
    return remnant.size if remove_image(api, name, "remove what is left over") else None


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


def _layers(images: list[dict[str, Any]]) -> list[BuiltLayer]:
    found = (layer_from_list(image, "") for image in images)
    return [layer for layer in found if layer is not None]


def _untagged(images: list[dict[str, Any]], claimed: Claims) -> list[dict[str, Any]]:
    """Return the layers without a name that no other image needs, and that may go: those that were replaced."""
    needed = {image.get("ParentId") for image in images}
    replaced_at = {image["Labels"][KEY]: float(image["Created"]) for image in images if names(image)}

    def goes(image: Mapping[str, Any]) -> bool:
        key, made = image["Labels"][KEY], float(image["Created"])
        return may_go(key, max(made, replaced_at.get(key, made)), claimed)

    return [image for image in images if not names(image) and image["Id"] not in needed and goes(image)]
