"""The engine that uses a Docker API."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pytest_imagebuild.engines.archives import Archives
from pytest_imagebuild.engines.credentials import Credentials
from pytest_imagebuild.engines.docker.bases import Bases
from pytest_imagebuild.engines.docker.connection import HOST_NAME, Connection, connect, engine_errors
from pytest_imagebuild.engines.docker.gpus import Gpus
from pytest_imagebuild.engines.docker.housekeeping import remove_layer, stored_layers
from pytest_imagebuild.engines.docker.load import load_archive
from pytest_imagebuild.engines.docker.pulled import Pulled
from pytest_imagebuild.engines.docker.store import Store
from pytest_imagebuild.engines.docker.sweep import left_over, remove_remnant, sweep, unused_bases
from pytest_imagebuild.engines.docker.volumes import Volumes
from pytest_imagebuild.engines.docker.work import Host, Workshop
from pytest_imagebuild.engines.generations import NO_CLAIMS, Claims
from pytest_imagebuild.engines.gpus.inventory import GpuInventory
from pytest_imagebuild.engines.layers import BasePin, BuiltLayer, LayerLabels
from pytest_imagebuild.engines.owner import Owner
from pytest_imagebuild.engines.protocol import Capabilities, Output, SessionSpec, platform_of
from pytest_imagebuild.engines.services import ServiceSpec
from pytest_imagebuild.engines.stored import Remnant, StoredLayer
from pytest_imagebuild.engines.uses import folder_name
from pytest_imagebuild.engines.volumes import StoredVolume
from pytest_imagebuild.engines.work import DockerfileWork, Work
from pytest_imagebuild.errors import EngineError

if TYPE_CHECKING:
    from pytest_imagebuild.engines.docker.dockerfile.build import DockerfileBuilder
    from pytest_imagebuild.engines.docker.launcher import Launcher
    from pytest_imagebuild.engines.docker.service import ServiceContainer
    from pytest_imagebuild.engines.docker.session import SessionContainer

__all__ = ["DockerEngine"]

_PIDS_LIMIT = 4096
_NO_CONTROLLER = (
    "This Docker has no control group for {}. A rootless one gets it when systemd delegates it to the user: "
    "https://docs.docker.com/engine/security/rootless/tips/#limiting-resources"
)


class DockerEngine:
    """Layers are images, containers are started through testcontainers.

    Nothing is contacted before the first call. Raises EngineUnavailableError when nothing answers then.
    """

    name = "docker"

    def __init__(self, *, run: str, cache_dir: Path) -> None:
        self._run = run
        self._cache_dir = cache_dir
        self._opening = threading.Lock()
        self._opened: _Opened | None = None

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
        opened = self._open()
        return self._commit(opened.bases.bring(reference, pin, output, credentials), Work(), labels, output)

    def build(self, parent: BuiltLayer, work: Work, labels: LayerLabels, output: Output) -> BuiltLayer:
        """Execute `work` in a container of `parent` and keep the result as the layer of `labels.key`."""
        return self._commit(parent.reference, work, labels, output)

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
        opened = self._open()
        folders = opened.owner.remove_folders_of_dead(opened.contexts)
        swept = sweep(opened.connection.client.api, opened.owner, claimed) + folders
        opened.owner.remove_locks_of_dead()
        return swept

    def drop(self, namespace: str) -> None:
        """Remove every layer of a throw-away namespace."""
        if not namespace:
            raise EngineError("the layers of the cache are not thrown away as a whole")
        self._settled().store.drop(namespace)

    def stored(self) -> Sequence[StoredLayer]:
        """Return every finished layer of the cache proper, with the bytes that each holds."""
        opened = self._settled()
        return stored_layers(opened.connection.client.api, opened.pulled)

    def remnants(self, claimed: Claims = NO_CLAIMS) -> Sequence[Remnant]:
        """Return what no key leads to and no living run can still want, in an order in which it can be removed."""
        opened = self._settled()
        api = opened.connection.client.api
        return [*left_over(api, opened.owner, claimed), *unused_bases(api, opened.pulled)]

    def remove(self, item: StoredLayer | Remnant) -> int | None:
        """Remove it and return the bytes freed; None where it stays."""
        opened = self._settled()
        api = opened.connection.client.api
        if isinstance(item, Remnant):
            return remove_remnant(api, item)
        return remove_layer(api, opened.pulled, item.built)

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
        opened = self._open()
        return load_archive(opened.connection.client.api, archive, name, opened.capabilities.platform, output)

    def save(self, layer: BuiltLayer, target: Path, name: str, output: Output) -> None:
        """Write the image of a layer to a file."""
        # Few processes of an engine save an image.
        from pytest_imagebuild.engines.docker.saving import save_image  # noqa: PLC0415

        save_image(self._open().connection.client.api, layer.reference, target, name, output)

    def close(self) -> None:
        """Stop what this process started and let go of the connection. Calling it again does nothing."""
        with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _commit(self, image: str, work: Work, labels: LayerLabels, output: Output) -> BuiltLayer:
        opened = self._open()
        config = opened.store.config(image)
        with opened.workshop.done(image, config, work, output) as (container, _):
            return opened.store.commit(container, config, work.config, labels)

    def _settled(self) -> _Opened:
        """Return what there is, once the containers are gone that have done their work: they keep what they use."""
        opened = self._open()
        opened.workshop.settle()
        return opened

    def _open(self) -> _Opened:
        with self._opening:
            if self._opened is None:
                self._opened = _Opened(connect(), run=self._run, cache_dir=self._cache_dir)
            return self._opened


class _Opened:
    """What there is once the daemon has answered."""

    def __init__(self, connection: Connection, *, run: str, cache_dir: Path) -> None:
        self.connection = connection
        api = connection.client.api
        with engine_errors("describe itself"):
            info = api.info()
        self.capabilities = _capabilities(info, local=connection.local)
        self.host = _host(info)
        self.owner = Owner(run=run, cache_dir=cache_dir)
        self.store = Store(api, self.owner.labels)
        architecture = self.capabilities.platform.rpartition("/")[2]
        self.pulled = Pulled(cache_dir.absolute() / "pulled" / folder_name(self.capabilities.identity))
        self.bases = Bases(api, self.store, Archives(cache_dir, cast("Any", architecture)), self.pulled)
        self.volumes = Volumes(api, self.owner)
        self.gpus = Gpus(info, address=connection.address, local=connection.local)
        self.workshop = Workshop(api, self.host, self.gpus, self.owner.labels, self.volumes)
        self._launcher: Launcher | None = None
        self.contexts = cache_dir.absolute() / "dockerfiles"

    @cached_property
    def dockerfiles(self) -> DockerfileBuilder:
        """What builds Dockerfiles."""
        # Most processes build none.
        from pytest_imagebuild.engines.docker.dockerfile.build import DockerfileBuilder  # noqa: PLC0415

        return DockerfileBuilder(
            self.connection.client.api,
            self.store,
            address=self.connection.address,
            platform=self.capabilities.platform,
            folder=self.owner.folder(self.contexts),
        )

    def launcher(self) -> Launcher:
        """Return what starts containers."""
        # Its testcontainers takes 70 ms to load, which a process that only looks up or builds does not spend.
        from pytest_imagebuild.engines.docker.launcher import Launcher  # noqa: PLC0415

        if self._launcher is None:
            self._launcher = Launcher(
                connection=self.connection,
                host=self.host,
                labels=self.owner.labels,
                gpus=self.gpus,
                config=self.store.config,
                volumes=self.volumes,
            )
        return self._launcher

    def close(self) -> None:
        try:
            if self._launcher is not None:
                self._launcher.stop_all()
            if "dockerfiles" in vars(self):
                self.dockerfiles.close()
            self.workshop.close()
            self.volumes.close()
        finally:
            self.owner.release()
            self.connection.client.close()


def _capabilities(info: Mapping[str, Any], *, local: bool) -> Capabilities:
    system = str(info.get("OSType") or "linux")
    # Where "host" is another network than that of this machine.
    own_network = info.get("OperatingSystem") == "Docker Desktop" or any(
        "rootless" in option for option in info.get("SecurityOptions") or ()
    )
    return Capabilities(
        engine="docker",
        version=str(info.get("ServerVersion") or ""),
        platform=platform_of(system, str(info.get("Architecture") or "")),
        identity=str(info.get("ID") or info.get("Name") or ""),
        host_network=local and system == "linux" and sys.platform == "linux" and not own_network,
        host_address=HOST_NAME if local else "",
        unenforced=_unenforced(info),
    )


def _unenforced(info: Mapping[str, Any]) -> dict[str, str]:
    # A daemon that lacks a controller of the kernel drops a limit with no more than a warning.
    missing = {"memory": not info.get("MemoryLimit", True), "cpu": not info.get("CpuCfsQuota", True)}
    return {name: _NO_CONTROLLER.format(name) for name, is_missing in missing.items() if is_missing}


def _host(info: Mapping[str, Any]) -> Host:
    # A daemon that lacks the binary of its init says "N/A" for its version, and fails to start what asks for it.
    init = bool(info.get("InitBinary")) and (info.get("InitCommit") or {}).get("ID") != "N/A"
    return Host(init=init, pids_limit=_PIDS_LIMIT if info.get("PidsLimit") else None)
