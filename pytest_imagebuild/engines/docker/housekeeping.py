"""What the layers in the engine hold, and how they go: nothing that somebody needs, and no byte counted twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_imagebuild.engines.docker.connection import engine_errors
from pytest_imagebuild.engines.docker.marks import BASES, layer_from_list, tag
from pytest_imagebuild.engines.docker.removing import remove_image
from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.stored import StoredLayer

if TYPE_CHECKING:
    from docker import APIClient

    from pytest_imagebuild.engines.docker.pulled import Pulled

__all__ = ["Images", "names", "remove_layer", "stored_layers"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Images:
    """The images of the engine and its containers, as they were at one moment.

    `pulled` are the digests of the images that we pulled.
    """

    by_id: Mapping[str, Mapping[str, Any]]
    in_containers: frozenset[str]
    pulled: frozenset[str]

    @classmethod
    def read(cls, api: APIClient, pulled: Pulled) -> Images:
        """List both."""
        with engine_errors("list its images and containers"):
            images = api.images(all=True)
            containers = api.containers(all=True)
        return cls(
            by_id={image["Id"]: image for image in images},
            in_containers=frozenset(container["ImageID"] for container in containers),
            pulled=frozenset(pulled.digests()),
        )

    def layers(self) -> dict[str, BuiltLayer]:
        """Return the layers of the cache proper by their key."""
        found = (layer_from_list(image, "") for image in self.by_id.values())
        return {layer.labels.key: layer for layer in found if layer is not None}

    def needed(self, image: str, *, but: Iterable[str] = ()) -> bool:
        """Say whether a container or another image needs an image; those of `but` do not count."""
        others = (entry.get("ParentId") for name, entry in self.by_id.items() if name not in {image, *but})
        return image in self.in_containers or image in others

    def below(self, image: str) -> str:
        """Return the image that an image was made of, if it is here; else an empty text."""
        parent = str(self.by_id[image].get("ParentId") or "")
        return parent if parent in self.by_id else ""

    def brought(self, image: str) -> bool:
        """Say whether an image is a base that we brought and to which nobody gave a name of his own."""
        entry = self.by_id[image]
        named = names(entry)
        if named:
            return all(name.startswith(f"{BASES}:") for name in named)
        return any(name.partition("@")[2] in self.pulled for name in entry.get("RepoDigests") or ())

    def own_size(self, layer: BuiltLayer, layers: Mapping[str, BuiltLayer]) -> int:
        """Return the bytes of a layer; those of a base image below it that is ours count for the newest on it."""
        below = self.below(layer.reference)
        if not below:
            parent = layers.get(layer.labels.parent)
            return layer.size - (parent.size if parent else 0)
        if self.brought(below):
            sharers = (one for one in layers.values() if self.below(one.reference) == below)
            if max(sharers, key=lambda one: (one.created, one.labels.key)) == layer:
                return layer.size
        return self.size_without(layer, below)

    def size_without(self, layer: BuiltLayer, below: str) -> int:
        """Return the bytes of a layer without those of the image below it."""
        return max(0, layer.size - int(self.by_id[below]["Size"]))


def stored_layers(api: APIClient, pulled: Pulled) -> list[StoredLayer]:
    """Return every layer of the cache proper."""
    images = Images.read(api, pulled)
    layers = images.layers()
    return [
        StoredLayer(
            built=layer,
            own_size=images.own_size(layer, layers),
            in_use=layer.reference in images.in_containers,
        )
        for layer in layers.values()
    ]


def remove_layer(api: APIClient, pulled: Pulled, layer: BuiltLayer) -> int | None:
    """Remove a layer, and the base image below it where nothing else needs that; return the bytes freed."""
    images = Images.read(api, pulled)
    layers = images.layers()
    current = layers.get(layer.labels.key)
    if current is None:
        return 0
    stands_on_it = any(other.labels.parent == layer.labels.key for other in layers.values())
    if current.reference != layer.reference or stands_on_it or images.needed(current.reference):
        return None
    below = images.below(current.reference)
    if not _remove(api, tag(layer.labels.key, "")):
        return None
    # An image that has another name is still there.
    stays = len(names(images.by_id[current.reference])) > 1
    if not below:
        return 0 if stays else images.own_size(current, layers)
    if stays or not images.brought(below) or images.needed(below, but=[current.reference]):
        return 0 if stays else images.size_without(current, below)
    entry = images.by_id[below]
    for name in names(entry) or entry.get("RepoDigests") or ():
        _remove(api, name)
    return current.size


def names(image: Mapping[str, Any]) -> list[str]:
    """Return the names of an image in the list of images."""
    return [name for name in image.get("RepoTags") or () if name != "<none>:<none>"]


def _remove(api: APIClient, name: str) -> bool:
    return remove_image(api, name) is not False
