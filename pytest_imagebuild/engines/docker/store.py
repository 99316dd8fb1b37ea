"""The layers in the engine: look them up, commit new ones, remove old ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from docker.errors import ImageNotFound

from pytest_imagebuild.engines.configuration import changed
from pytest_imagebuild.engines.docker.connection import engine_errors
from pytest_imagebuild.engines.docker.marks import (
    KEY,
    layer_from_inspect,
    layer_from_list,
    repository,
    tag,
    to_image_labels,
)
from pytest_imagebuild.engines.docker.removing import gone, remove_image
from pytest_imagebuild.engines.layers import BuiltLayer, LayerIndex, LayerLabels
from pytest_imagebuild.engines.work import ConfigChange
from pytest_imagebuild.errors import EngineError

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["Store"]


class Store:
    """Layers by key. `owner` is what a throw-away layer is labelled with."""

    def __init__(self, api: APIClient, owner: Mapping[str, str]) -> None:
        self._api = api
        self._owner = owner
        self._configs: dict[str, Mapping[str, Any]] = {}

    def layers(self, namespace: str) -> LayerIndex:
        """Return every layer of a namespace, by one call. Images without a tag are none."""
        with engine_errors("list its images"):
            images = self._api.images(filters={"label": [KEY], "reference": repository(namespace)})
        listed = {key: image for image in images if (key := (image.get("Labels") or {}).get(KEY))}
        return LayerIndex(
            lambda key: layer_from_list(listed[key], namespace) if key in listed else None, lambda: list(listed)
        )

    def find(self, key: str, namespace: str) -> BuiltLayer | None:
        """Return the layer of a key."""
        image = self.inspect(tag(key, namespace))
        layer = layer_from_inspect(image) if image is not None else None
        if layer is None or (layer.labels.key, layer.labels.namespace) != (key, namespace):
            return None
        return layer

    def inspect(self, image: str) -> dict[str, Any] | None:
        """Return what the engine knows of an image, or None where it has none of that name."""
        with engine_errors(f"look at the image {image}"):
            try:
                found: dict[str, Any] = self._api.inspect_image(image)  # type: ignore[no-untyped-call]
            except ImageNotFound:
                return None
        return found

    def config(self, image: str) -> Mapping[str, Any]:
        """Return the configuration of an image by its id, which never changes."""
        if image not in self._configs:
            found = self.inspect(image)
            if found is None:
                raise gone(image)
            self._configs[image] = found.get("Config") or {}
        return self._configs[image]

    def commit(
        self, container: str, parent: Mapping[str, Any], change: ConfigChange, labels: LayerLabels
    ) -> BuiltLayer:
        """Keep an ended container as a layer. The tag moves when it is whole; what had it goes with a later sweep.

        `parent` is the configuration of the parent: the engine fills in from the container whatever is not given.
        """
        name = tag(labels.key, labels.namespace)
        # Null would be filled in with the entrypoint of the container, which is a shell.
        config = changed(parent, change)
        config["Entrypoint"] = config.get("Entrypoint") or []
        config["Labels"] = {**(parent.get("Labels") or {}), **to_image_labels(labels, self._owner)}
        with engine_errors("commit a layer"):
            image = self._api.commit(
                container, repository(labels.namespace), labels.key, message=labels.step, conf=config
            )["Id"]
        return self._kept(name, image)

    def adopt(self, labels: LayerLabels, make: Callable[[str, Mapping[str, str]], str]) -> BuiltLayer:
        """Keep as a layer what `make` builds: it gets the name and the labels of the image, and returns its id."""
        name = tag(labels.key, labels.namespace)
        return self._kept(name, make(name, to_image_labels(labels, self._owner)))

    def _kept(self, name: str, image: str) -> BuiltLayer:
        found = self.inspect(image) or {"Config": {}}
        layer = layer_from_inspect(found)
        if layer is None:
            raise EngineError(f"the layer {name} is gone right after it was made; is something pruning images?")
        self._configs[layer.reference] = found["Config"]
        return layer

    def drop(self, namespace: str) -> int:
        """Remove every layer of a throw-away namespace, the newest first; return how many."""
        layers = sorted(self.layers(namespace).values(), key=lambda layer: layer.created, reverse=True)
        for layer in layers:
            remove_image(self._api, tag(layer.labels.key, namespace), "remove throw-away layers", force=True)
        return len(layers)
