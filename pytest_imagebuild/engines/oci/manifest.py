"""Manifests, indexes and image configurations: parsed with bounds, checked against each other.

OCI image specification (manifest.md, image-index.md, config.md) and Docker's "Image Manifest V 2, Schema 2".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pytest_imagebuild.engines.oci.content import checked_digest, digest_of
from pytest_imagebuild.errors import BaseImageError

__all__ = [
    "ACCEPT",
    "MOST_METADATA",
    "Descriptor",
    "Index",
    "Manifest",
    "OciImage",
    "OciLayer",
    "parse_image",
    "parse_json",
    "parse_manifest",
]

MOST_METADATA = 4 * 1024 * 1024
"""No manifest, index or configuration may have more bytes: the limit of the distribution specification."""

_MOST_LAYERS = 1000
_MOST_MANIFESTS = 1000

_OCI = "application/vnd.oci.image."
_DOCKER = "application/vnd.docker.distribution.manifest."
_INDEXES = (f"{_OCI}index.v1+json", f"{_DOCKER}list.v2+json")
_MANIFESTS = (f"{_OCI}manifest.v1+json", f"{_DOCKER}v2+json")
# Old registries kept no type of a configuration.
_CONFIGS = (f"{_OCI}config.v1+json", "application/vnd.docker.container.image.v1+json", "application/octet-stream", "")
_SCHEMA_1 = (f"{_DOCKER}v1+json", f"{_DOCKER}v1+prettyjws")
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_LAYERS = (
    *(f"{_OCI}layer.v1.tar{packing}" for packing in ("", "+gzip", "+zstd")),
    *(f"{_DOCKER_LAYER}{packing}" for packing in ("", ".gzip", ".zstd")),
)
ACCEPT = ", ".join((*_MANIFESTS, *_INDEXES))
"""What a registry is asked for. Without it some answer with schema 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OciLayer:
    """One layer. `diff_id` is the digest of the uncompressed tar, `blob` that of what is stored, of `size` bytes."""

    diff_id: str
    blob: str
    media_type: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OciImage:
    """An image. `id` is the digest of its configuration, `config` that object's `config`; layers are bottom first."""

    id: str
    config: Mapping[str, Any]
    layers: tuple[OciLayer, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Descriptor:
    """What a manifest or an index says of a blob."""

    digest: str
    media_type: str
    size: int
    platform: str = ""
    annotations: Mapping[str, str]

    @property
    def is_index(self) -> bool:
        """Say whether it names an index."""
        return self.media_type in _INDEXES

    def serves(self, platform: str) -> bool:
        """Say whether it is for `platform`, or does not say for which it is."""
        return not self.platform or self.platform in _acceptable(platform)


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """A manifest of one platform."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """A list of manifests: one for each platform."""

    manifests: tuple[Descriptor, ...]

    def choose(self, platform: str, subject: str) -> Descriptor:
        """Return the manifest of `platform` (as in `linux/arm64`). Raises BaseImageError."""
        for wanted in _acceptable(platform):
            for entry in self.manifests:
                if entry.platform == wanted:
                    return entry
        known = sorted({entry.platform for entry in self.manifests if entry.platform not in ("", "unknown/unknown")})
        message = f"{subject} has no image for {platform}; it has {', '.join(known) or 'none that names its platform'}."
        raise BaseImageError(message)


def parse_manifest(data: bytes, subject: str, media_type: str = "") -> Manifest | Index:
    """Parse a manifest or an index. `media_type` is what the registry called it; `subject` is for messages."""
    parsed = parse_json(data, f"the manifest of {subject}")
    kind = parsed.get("mediaType") or media_type.partition(";")[0].strip()
    if parsed.get("schemaVersion") == 1 or kind in _SCHEMA_1:
        message = (
            f"{subject} has a manifest of Docker's schema 1, which no registry has to serve any more. Push the image "
            "again with a current Docker, or take a newer tag."
        )
        raise BaseImageError(message)
    if kind not in (*_INDEXES, *_MANIFESTS):
        kind = _INDEXES[0] if "manifests" in parsed else _MANIFESTS[0] if "config" in parsed else kind
    if kind in _INDEXES:
        return Index(manifests=_descriptors(parsed, "manifests", _MOST_MANIFESTS, subject))
    if kind in _MANIFESTS:
        config = _descriptor(parsed.get("config"), subject)
        if config.media_type not in _CONFIGS:
            message = (
                f"{subject} is no container image: its configuration is a {config.media_type[:80]!r}. Name an image."
            )
            raise BaseImageError(message)
        return Manifest(config=config, layers=_descriptors(parsed, "layers", _MOST_LAYERS, subject))
    raise BaseImageError(
        f"{subject} is neither an image nor an index of images, but {str(kind)[:80]!r}. Name an image."
    )


def parse_image(manifest: Manifest, data: bytes, platform: str, subject: str) -> OciImage:
    """Put a manifest and its configuration together. Raises BaseImageError when they do not fit."""
    what = f"the configuration of {subject}"
    parsed = parse_json(data, what)
    found = "/".join(str(parsed.get(key) or "") for key in ("os", "architecture"))
    wanted = "/".join(platform.split("/")[:2])
    if found != wanted:
        raise BaseImageError(f"{subject} is an image for {found}, not for {wanted}. Name one that has {wanted}.")
    root = parsed.get("rootfs")
    diff_ids = root.get("diff_ids") if isinstance(root, dict) else None
    if not isinstance(diff_ids, list) or len(diff_ids) != len(manifest.layers):
        count = len(diff_ids) if isinstance(diff_ids, list) else "no"
        message = f"{what} names {count} layers where its manifest has {len(manifest.layers)}. Push the image again."
        raise BaseImageError(message)
    config = parsed.get("config") or {}
    if not isinstance(config, dict):
        raise BaseImageError(f"{what} is damaged: its `config` is no object. Push the image again.")
    layers = (
        OciLayer(
            diff_id=checked_digest(diff_id), blob=layer.digest, media_type=_layer_type(layer, subject), size=layer.size
        )
        for diff_id, layer in zip(diff_ids, manifest.layers, strict=True)
    )
    return OciImage(id=digest_of(data), config=config, layers=tuple(layers))


def parse_json(data: bytes, what: str) -> dict[str, Any]:
    """Return the object that `data` holds. Raises BaseImageError."""
    if len(data) > MOST_METADATA:
        raise BaseImageError(f"{what} has more than {MOST_METADATA >> 20} MiB, which no registry may serve.")
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BaseImageError(f"{what} is not JSON ({error}). Try again, or push the image again.") from error
    if not isinstance(parsed, dict):
        raise BaseImageError(f"{what} is JSON, but no object. Push the image again.")
    return parsed


def _descriptors(parsed: Mapping[str, Any], key: str, most: int, subject: str) -> tuple[Descriptor, ...]:
    entries = parsed.get(key)
    if not isinstance(entries, list) or len(entries) > most:
        found = f"{len(entries)} entries" if isinstance(entries, list) else "none"
        raise BaseImageError(f"the manifest of {subject} needs a list of at most {most} {key}; it has {found}.")
    return tuple(_descriptor(entry, subject) for entry in entries)


def _descriptor(entry: object, subject: str) -> Descriptor:
    if not isinstance(entry, dict):
        raise BaseImageError(f"the manifest of {subject} has an entry that is no object. Push the image again.")
    size, media_type = entry.get("size"), entry.get("mediaType")
    if type(size) is not int or size < 0 or not isinstance(media_type, str):
        message = f"the manifest of {subject} has an entry without a size or a media type. Push the image again."
        raise BaseImageError(message)
    platform, annotations = entry.get("platform"), entry.get("annotations")
    return Descriptor(
        digest=checked_digest(entry.get("digest")),
        media_type=media_type,
        size=size,
        platform=_platform(platform) if isinstance(platform, dict) else "",
        annotations=_strings(annotations) if isinstance(annotations, dict) else {},
    )


def _layer_type(layer: Descriptor, subject: str) -> str:
    if "foreign" in layer.media_type or "nondistributable" in layer.media_type:
        message = (
            f"{subject} has a foreign layer ({layer.media_type}), which registries do not hold. Such images are for "
            "Windows; name one for Linux."
        )
        raise BaseImageError(message)
    if layer.media_type not in _LAYERS:
        raise BaseImageError(f"{subject} has a layer of the type {layer.media_type[:80]!r}, which no engine unpacks.")
    return layer.media_type


def _strings(entries: Mapping[object, object]) -> dict[str, str]:
    return {key: value for key, value in entries.items() if isinstance(key, str) and isinstance(value, str)}


def _platform(entry: Mapping[str, object]) -> str:
    parts = [str(entry.get(key) or "") for key in ("os", "architecture", "variant")]
    return "/".join(parts if parts[2] else parts[:2])


def _acceptable(platform: str) -> Sequence[str]:
    """Return what serves `platform`, best first: with and without the variant that is meant when none is named."""
    system, architecture, variant = cast("tuple[str, str, str]", (*platform.split("/"), "", "", "")[:3])
    base = f"{system}/{architecture}"
    match architecture, variant:
        case ("amd64", "" | "v1"):
            return (base, f"{base}/v1")
        case ("arm64", "" | "v8"):
            return (base, f"{base}/v8")
        case ("arm", "" | "v7"):
            return (f"{base}/v7", base, f"{base}/v6", f"{base}/v5")
        case (_, ""):
            return (base,)
    return (platform, base)
