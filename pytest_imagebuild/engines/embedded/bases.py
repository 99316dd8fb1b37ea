"""Base images in the store: from a registry, from an archive that was loaded, or made from Debian's packages."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from pytest_imagebuild.engines import bootstrap
from pytest_imagebuild.engines.archives import Archives
from pytest_imagebuild.engines.configuration import PATH
from pytest_imagebuild.engines.credentials import Credentials
from pytest_imagebuild.engines.embedded.images import LoadedImages, short
from pytest_imagebuild.engines.embedded.store import Store, Tree
from pytest_imagebuild.engines.layers import BasePin
from pytest_imagebuild.engines.oci import RegistryUnreachable
from pytest_imagebuild.engines.oci.content import Blobs
from pytest_imagebuild.engines.oci.manifest import OciImage, OciLayer
from pytest_imagebuild.engines.oci.registry import Registry
from pytest_imagebuild.engines.protocol import Output
from pytest_imagebuild.engines.references import Reference, unknown_source
from pytest_imagebuild.errors import BaseImageError

__all__ = ["BaseImage", "Bases"]

Scratch = Callable[[], AbstractContextManager[Path]]

_PLAIN_TAR = "application/vnd.oci.image.layer.v1.tar"
_MOST_BYTES = 200 * 1024**3
"""What all files of one layer may take unpacked. The largest GPU images have some 30 GiB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseImage:
    """A base image in the store: its trees from the bottom up, and its configuration."""

    trees: tuple[Tree, ...]
    config: Mapping[str, Any]


class Bases:
    """Pins base images and brings them into the store. `scratch` gives folders that a sweep finds."""

    def __init__(self, store: Store, cache_dir: Path, platform: str, scratch: Scratch) -> None:
        self._store = store
        self._platform = platform
        self._scratch = scratch
        self._archives = Archives(cache_dir, cast("Any", platform.rpartition("/")[2]))
        self._blobs = Blobs(store.downloads / "blobs")
        self._images = LoadedImages(store.downloads / "images")

    def pin(self, reference: str, output: Output, credentials: Credentials | None = None) -> BasePin:
        """Ask what `reference` stands for today."""
        name = Reference.parse(reference)
        if name.digest:
            return BasePin(digest=name.digest, source="registry")
        loaded = self._images.named(reference)
        if loaded is not None:
            return BasePin(digest=loaded.id, source="local")
        try:
            return BasePin(digest=self._registry.resolve(reference, output, credentials), source="registry")
        except RegistryUnreachable as error:
            digest = self._archives.stand_in(reference, error.registry, error.said, "imagebuild import", output)
            return BasePin(digest=digest, source="bootstrap")

    def bring(self, reference: str, pin: BasePin, output: Output, credentials: Credentials | None = None) -> BaseImage:
        """Have the pinned image in the store, verified."""
        match pin.source:
            case "registry":
                image = self._registry.fetch(reference, pin.digest, output, credentials)
            case "bootstrap":
                image = self._made(reference, pin.digest, output)
            case "local":
                image = self._loaded(reference, pin.digest)
            case "scratch":
                return BaseImage(trees=(), config={})
            case _:
                raise unknown_source(reference, pin)
        try:
            return self._unpacked(reference, image, output)
        except BaseImageError:
            damaged = [layer for layer in image.layers if not self._blobs.verify(layer.blob)]
            if pin.source != "registry" or not damaged:
                raise
        output(f"{reference}: a download was damaged on this disk; it is fetched again")
        return self._unpacked(reference, self._registry.fetch(reference, pin.digest, output, credentials), output)

    def load(self, archive: Path, name: str, output: Output) -> tuple[str, ...]:
        """Take in the images of an archive file; return the names under which they are found now."""
        from pytest_imagebuild.engines.oci.archive import load  # noqa: PLC0415

        loaded = load(archive, self._blobs, self._platform, output)
        # In an OCI layout, a name may be a tag alone.
        names = [tuple(one for one in found.names if ":" in one) or (name,) for found in loaded]
        if ("",) in names:
            raise BaseImageError(
                f"{archive} holds an image without a name. Give it one: `imagebuild import --name NAME:TAG {archive}`."
            )
        named = [(short(one), found.image) for found, some in zip(loaded, names, strict=True) for one in some]
        for one, image in named:
            self._images.keep(one, image)
        return tuple(dict.fromkeys(one for one, _ in named))

    @cached_property
    def _registry(self) -> Registry:
        return Registry(blobs=self._blobs, platform=self._platform)

    def _unpacked(self, reference: str, image: OciImage, output: Output) -> BaseImage:
        trees = []
        for number, layer in enumerate(image.layers, 1):
            if self._store.base_tree(layer.diff_id) is None:
                output(f"{reference}: unpacking {number} of {len(image.layers)}")
            trees.append(self._tree(layer))
        return BaseImage(trees=tuple(trees), config=image.config)

    def _made(self, reference: str, digest: str, output: Output) -> OciImage:
        archive = self._archives.get(reference, digest, output)
        if not self._blobs.has(digest):
            self._blobs.path(digest).parent.mkdir(parents=True, exist_ok=True)
            link = self._blobs.path(digest).with_suffix(f".{os.getpid()}")
            os.link(archive, link)
            link.replace(self._blobs.path(digest))
        command = bootstrap.command_of(reference)
        layer = OciLayer(diff_id=digest, blob=digest, media_type=_PLAIN_TAR, size=archive.stat().st_size)
        return OciImage(id=digest, config={"Env": [f"PATH={PATH}"], "Cmd": command}, layers=(layer,))

    def _loaded(self, reference: str, digest: str) -> OciImage:
        image = self._images.get(digest)
        if image is None:
            message = (
                f"{reference} is pinned to the local image {digest}, which is not in this engine. Load it again, "
                f"then run with --image-lock-upgrade={reference}."
            )
            raise BaseImageError(message)
        return image

    def _tree(self, layer: OciLayer) -> Tree:
        with self._blobs.lock(layer.diff_id):
            known = self._store.base_tree(layer.diff_id)
            if known is not None:
                return known
            with self._scratch() as folder:
                target = folder / "tree"
                target.mkdir()
                self._store.files.unpack(
                    self._blobs.path(layer.blob),
                    layer.media_type,
                    target,
                    diff_id=layer.diff_id,
                    limit=_MOST_BYTES,
                )
                return self._store.keep_base_tree(target, layer.diff_id)
