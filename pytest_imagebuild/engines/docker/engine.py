"""The engine that uses a Docker API."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_imagebuild.engines.docker.address import look
from pytest_imagebuild.engines.generations import NO_CLAIMS, Claims
from pytest_imagebuild.engines.loading import loading
from pytest_imagebuild.errors import EngineError

if TYPE_CHECKING:
    from pytest_imagebuild.engines.credentials import Credentials
    from pytest_imagebuild.engines.docker.opened import Opened
    from pytest_imagebuild.engines.docker.service import ServiceContainer
    from pytest_imagebuild.engines.docker.session import SessionContainer
    from pytest_imagebuild.engines.gpus.inventory import GpuInventory
    from pytest_imagebuild.engines.layers import BasePin, BuiltLayer, LayerLabels
    from pytest_imagebuild.engines.protocol import Capabilities, Output, SessionSpec
    from pytest_imagebuild.engines.services import ServiceSpec
    from pytest_imagebuild.engines.stored import Remnant, StoredLayer
    from pytest_imagebuild.engines.volumes import StoredVolume
    from pytest_imagebuild.engines.work import DockerfileWork, Work

__all__ = ["DockerEngine"]


class DockerEngine:
    """Layers are images, containers are started through testcontainers.

    Nothing is contacted, nor is a library of Docker loaded, before the first call. Raises EngineUnavailableError when
    nothing answers then.
    """

    name = "docker"

    def __init__(self, *, run: str, cache_dir: Path) -> None:
        self._run = run
        self._cache_dir = cache_dir
        self._opening = threading.Lock()
        self._opened: Opened | None = None

    def capabilities(self) -> Capabilities:
        """Return what it can do here; the first call contacts it."""
        return self._open().capabilities

    def gpus(self) -> GpuInventory:
        """Return the GPUs that its containers can have; the first call looks for them."""
        return self._open().gpus.inventory()

    def layers(self, namespace: str = "") -> Mapping[str, BuiltLayer]:
        """Return every finished layer of a namespace by its key, in one look-up."""
        return self._open().store.layers(namespace)

    def find(self, key: str, namespace: str = "") -> BuiltLayer | None:
        """Return the finished layer of a key."""
        return self._open().store.find(key, namespace)

    def pin_base(self, reference: str, output: Output, credentials: Credentials | None = None) -> BasePin:
        """Ask what `reference` stands for today."""
        return self._open().bases.pin(reference, output, credentials)

    def import_base(
        self,
        reference: str,
        pin: BasePin,
        labels: LayerLabels,
        output: Output,
        credentials: Credentials | None = None,
    ) -> BuiltLayer:
        """Bring the pinned base image into the engine, verified, as a layer."""
        return self._open().import_base(reference, pin, labels, output, credentials)

    def build(self, parent: BuiltLayer, work: Work, labels: LayerLabels, output: Output) -> BuiltLayer:
        """Execute `work` in a container of `parent` and keep the result as the layer of `labels.key`."""
        return self._open().commit(parent.reference, work, labels, output)

    def build_dockerfile(
        self, parent: BuiltLayer | None, work: DockerfileWork, labels: LayerLabels, output: Output
    ) -> BuiltLayer:
        """Give a Dockerfile to BuildKit, or to the classic builder, and keep the result as a layer."""
        return self._open().dockerfiles.build(parent, work, labels, output)

    def run(self, parent: BuiltLayer, work: Work, output: Output) -> bytes:
        """Execute `work` in a throw-away container of `parent`; return its standard output."""
        opened = self._open()
        config = opened.store.config(parent.reference)
        with opened.workshop.done(parent.reference, config, work, output, show=False) as (_, stdout):
            return stdout

    def start(self, layer: BuiltLayer, spec: SessionSpec) -> SessionContainer:
        """Start a session container."""
        return self._open().launcher().start(layer, spec)

    def serve(self, layer: BuiltLayer, spec: ServiceSpec) -> ServiceContainer:
        """Start a service container."""
        return self._open().launcher().serve(layer, spec)

    def sweep(self, claimed: Claims = NO_CLAIMS) -> int:
        """Remove what dead runs on this machine left behind; return how many things."""
        return self._open().sweep(claimed)

    def drop(self, namespace: str) -> None:
        """Remove every layer of a throw-away namespace."""
        if not namespace:
            raise EngineError("the layers of the cache are not thrown away as a whole")
        self._settled().store.drop(namespace)

    def stored(self) -> Sequence[StoredLayer]:
        """Return every finished layer of the cache proper, with the bytes that each holds."""
        return self._settled().stored()

    def remnants(self, claimed: Claims = NO_CLAIMS) -> Sequence[Remnant]:
        """Return what no key leads to and no living run can still want, in an order in which it can be removed."""
        return self._settled().remnants(claimed)

    def remove(self, item: StoredLayer | Remnant) -> int | None:
        """Remove it and return the bytes freed; None where it stays."""
        return self._settled().remove(item)

    def volumes(self) -> Sequence[StoredVolume]:
        """Return every named volume, sorted by name."""
        return self._settled().volumes.stored()

    def has_volume(self, name: str) -> bool:
        """Say whether there is a named volume of that name."""
        return self._open().volumes.has(name)

    def make_volume(self, name: str, *, ephemeral: bool = False) -> None:
        """Have an empty volume of that name, or the one that is there already."""
        self._open().volumes.make(name, ephemeral=ephemeral)

    def remove_volume(self, name: str) -> int | None:
        """Remove a named volume and return the bytes freed; None where a container has it mounted."""
        return self._settled().volumes.remove(name)

    def load(self, archive: Path, name: str, output: Output) -> tuple[str, ...]:
        """Bring the images of an archive into the engine; return the references under which they are found."""
        return self._open().load(archive, name, output)

    def save(self, layer: BuiltLayer, target: Path, name: str, output: Output) -> None:
        """Write the image of a layer to a file."""
        self._open().save(layer.reference, target, name, output)

    def close(self) -> None:
        """Stop what this process started and let go of the connection. Calling it again does nothing."""
        with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _settled(self) -> Opened:
        """Return what there is, once the containers are gone that have done their work: they keep what they use."""
        opened = self._open()
        opened.workshop.settle()
        return opened

    def _open(self) -> Opened:
        with self._opening:
            if self._opened is None:
                look()
                with loading(self.name):
                    from pytest_imagebuild.engines.docker.opened import Opened  # noqa: PLC0415 - it takes 0.2 s

                self._opened = Opened(run=self._run, cache_dir=self._cache_dir)
            return self._opened
