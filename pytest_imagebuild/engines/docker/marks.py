"""Labels and tags: how a layer is named in the engine, which is its only index."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from pytest_imagebuild.engines.layers import BuiltLayer, LayerLabels
from pytest_imagebuild.engines.owner import HOST, LOCK, RUN
from pytest_imagebuild.errors import EngineError

__all__ = [
    "BASES",
    "FORMAT",
    "KEY",
    "layer_from_inspect",
    "layer_from_list",
    "repository",
    "seconds",
    "tag",
    "to_image_labels",
]

FORMAT = "1"
KEY = "imagebuild.key"
BASES = "imagebuild/base"
_LAYERS = "imagebuild/layer"
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def repository(namespace: str) -> str:
    """Return the image repository that holds the layers of a namespace."""
    if not namespace:
        return _LAYERS
    # Docker allows lower case and no two separators in a row.
    return "imagebuild/run-" + re.sub(r"[^a-z0-9]+", "-", namespace.lower()).strip("-")


def tag(key: str, namespace: str) -> str:
    """Return the full name under which the layer of a key is found."""
    if not _KEY.fullmatch(key):
        raise EngineError(f"{key!r} cannot name a layer: Docker takes up to 128 letters, digits, '_', '.' and '-'")
    return f"{repository(namespace)}:{key}"


def to_image_labels(labels: LayerLabels, owner: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of an image.

    Only a throw-away layer has an owner. The two labels stand in every layer nevertheless, because a commit fills in
    each label of the container that it is not given.
    """
    owned = bool(labels.namespace)
    return {
        "imagebuild.format": FORMAT,
        KEY: labels.key,
        "imagebuild.parent": labels.parent,
        "imagebuild.generation": labels.generation,
        RUN: labels.run,
        "imagebuild.namespace": labels.namespace,
        "imagebuild.step": labels.step,
        "imagebuild.inputs": json.dumps(dict(labels.inputs), sort_keys=True),
        HOST: owner[HOST] if owned else "",
        LOCK: owner[LOCK] if owned else "",
    }


def layer_from_list(image: Mapping[str, Any], namespace: str) -> BuiltLayer | None:
    """Return the layer of an entry of the list of images, or None where it is not one of `namespace`.

    Images that a user builds on top of a layer inherit its labels, so the tag must say the same as the labels.
    """
    labels = _from_image_labels(image.get("Labels") or {})
    if labels is None or labels.namespace != namespace:
        return None
    if f"{repository(namespace)}:{labels.key}" not in (image.get("RepoTags") or ()):
        return None
    return BuiltLayer(labels=labels, reference=image["Id"], size=image["Size"], created=float(image["Created"]))


def layer_from_inspect(image: Mapping[str, Any]) -> BuiltLayer | None:
    """Return the layer that `docker image inspect` describes, or None where it carries no key."""
    labels = _from_image_labels(image["Config"].get("Labels") or {})
    if labels is None:
        return None
    return BuiltLayer(labels=labels, reference=image["Id"], size=image["Size"], created=seconds(image["Created"]))


def _from_image_labels(found: Mapping[str, str]) -> LayerLabels | None:
    if found.get("imagebuild.format") != FORMAT or not found.get(KEY):
        return None
    try:
        inputs = json.loads(found.get("imagebuild.inputs") or "{}")
    except ValueError:
        inputs = {}
    return LayerLabels(
        key=found[KEY],
        parent=found.get("imagebuild.parent", ""),
        generation=found.get("imagebuild.generation", ""),
        run=found.get(RUN, ""),
        namespace=found.get("imagebuild.namespace", ""),
        step=found.get("imagebuild.step", ""),
        inputs={str(name): str(value) for name, value in inputs.items()} if isinstance(inputs, dict) else {},
    )


def seconds(created: str) -> float:
    """Return a time of the API in whole seconds since the epoch."""
    # RFC 3339 with nanoseconds, which `datetime` does not read before Python 3.11. The list of images has none either.
    return datetime.strptime(created[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc).timestamp()
