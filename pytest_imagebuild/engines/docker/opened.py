"""What there is of Docker once its daemon has answered. With it come the libraries that talk to one."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pytest_imagebuild.engines.archives import Archives
from pytest_imagebuild.engines.docker.bases import Bases
from pytest_imagebuild.engines.docker.connection import HOST_NAME, connect, engine_errors
from pytest_imagebuild.engines.docker.gpus import Gpus
from pytest_imagebuild.engines.docker.housekeeping import remove_layer, stored_layers
from pytest_imagebuild.engines.docker.load import load_archive
from pytest_imagebuild.engines.docker.pulled import Pulled
from pytest_imagebuild.engines.docker.store import Store
from pytest_imagebuild.engines.docker.sweep import left_over, remove_remnant, sweep, unused_bases
from pytest_imagebuild.engines.docker.volumes import Volumes
from pytest_imagebuild.engines.docker.work import Host, Workshop
from pytest_imagebuild.engines.owner import Owner
from pytest_imagebuild.engines.protocol import Capabilities, platform_of
from pytest_imagebuild.engines.stored import Remnant
from pytest_imagebuild.engines.uses import folder_name
from pytest_imagebuild.engines.work import Work

if TYPE_CHECKING:
    from pytest_imagebuild.engines.credentials import Credentials
    from pytest_imagebuild.engines.docker.dockerfile.build import DockerfileBuilder
    from pytest_imagebuild.engines.docker.launcher import Launcher
    from pytest_imagebuild.engines.generations import Claims
    from pytest_imagebuild.engines.layers import BasePin, BuiltLayer, LayerLabels
    from pytest_imagebuild.engines.protocol import Output
    from pytest_imagebuild.engines.stored import StoredLayer

__all__ = ["Opened"]

_PIDS_LIMIT = 4096
_NO_CONTROLLER = (
    "This Docker has no control group for {}. A rootless one gets it when systemd delegates it to the user: "
    "https://docs.docker.com/engine/security/rootless/tips/#limiting-resources"
)


class Opened:
    """The parts of an engine, and what several of them do together. Raises EngineUnavailableError."""

    def __init__(self, *, run: str, cache_dir: Path) -> None:
        self.connection = connection = connect()
        self._api = api = connection.client.api
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
            self._api,
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

    def import_base(
        self, reference: str, pin: BasePin, labels: LayerLabels, output: Output, credentials: Credentials | None
    ) -> BuiltLayer:
        """Bring the pinned base image into the engine, as a layer."""
        return self.commit(self.bases.bring(reference, pin, output, credentials), Work(), labels, output)

    def commit(self, image: str, work: Work, labels: LayerLabels, output: Output) -> BuiltLayer:
        """Execute `work` in a container of an image and keep the result as the layer of `labels.key`."""
        config = self.store.config(image)
        with self.workshop.done(image, config, work, output) as (container, _):
            return self.store.commit(container, config, work.config, labels)

    def sweep(self, claimed: Claims) -> int:
        """Remove what dead runs left behind."""
        folders = self.owner.remove_folders_of_dead(self.contexts)
        swept = sweep(self._api, self.owner, claimed) + folders
        self.owner.remove_locks_of_dead()
        return swept

    def stored(self) -> Sequence[StoredLayer]:
        """Return every finished layer of the cache proper."""
        return stored_layers(self._api, self.pulled)

    def remnants(self, claimed: Claims) -> Sequence[Remnant]:
        """Return what no key leads to and no living run can still want."""
        return [*left_over(self._api, self.owner, claimed), *unused_bases(self._api, self.pulled)]

    def remove(self, item: StoredLayer | Remnant) -> int | None:
        """Remove what is stored, as `Engine.remove` says."""
        if isinstance(item, Remnant):
            return remove_remnant(self._api, item)
        return remove_layer(self._api, self.pulled, item.built)

    def load(self, archive: Path, name: str, output: Output) -> tuple[str, ...]:
        """Bring the images of an archive in."""
        return load_archive(self._api, archive, name, self.capabilities.platform, output)

    def save(self, image: str, target: Path, name: str, output: Output) -> None:
        """Write an image to a file."""
        # Few processes of an engine save an image.
        from pytest_imagebuild.engines.docker.saving import save_image  # noqa: PLC0415

        save_image(self._api, image, target, name, output)

    def close(self) -> None:
        """Stop what this process started and let go of the connection."""
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
