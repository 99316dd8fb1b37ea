"""The engine without a daemon."""

from __future__ import annotations

import hashlib
import os
import platform
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pytest_imagebuild.engines.configuration import changed, started_by
from pytest_imagebuild.engines.embedded.bounds import Bounds
from pytest_imagebuild.engines.embedded.bwrap import find_bwrap
from pytest_imagebuild.engines.embedded.disk import disk_errors
from pytest_imagebuild.engines.embedded.ids import BegunIds
from pytest_imagebuild.engines.embedded.limits import unenforced
from pytest_imagebuild.engines.embedded.process import Launch
from pytest_imagebuild.engines.embedded.rooms import Rooms
from pytest_imagebuild.engines.embedded.session import SessionContainer
from pytest_imagebuild.engines.embedded.soundness import Soundness
from pytest_imagebuild.engines.embedded.spawner import Spawner
from pytest_imagebuild.engines.embedded.tried import Tried
from pytest_imagebuild.engines.generations import NO_CLAIMS, Claims
from pytest_imagebuild.engines.owner import Owner
from pytest_imagebuild.engines.protocol import Capabilities, Output, SessionSpec, platform_of
from pytest_imagebuild.engines.stored import Remnant, StoredLayer
from pytest_imagebuild.errors import EngineError, EngineUnavailableError

if TYPE_CHECKING:
    from pytest_imagebuild.engines.credentials import Credentials
    from pytest_imagebuild.engines.embedded.bases import Bases
    from pytest_imagebuild.engines.embedded.dockerfile.build import DockerfileBuild
    from pytest_imagebuild.engines.embedded.gpus import Gpus
    from pytest_imagebuild.engines.embedded.housekeeping import Housekeeping
    from pytest_imagebuild.engines.embedded.service import ServiceContainer
    from pytest_imagebuild.engines.embedded.store import Store
    from pytest_imagebuild.engines.embedded.volumes import Volumes
    from pytest_imagebuild.engines.embedded.work import Workshop
    from pytest_imagebuild.engines.gpus.inventory import GpuInventory
    from pytest_imagebuild.engines.layers import BasePin, BuiltLayer, LayerLabels
    from pytest_imagebuild.engines.services import ServiceSpec
    from pytest_imagebuild.engines.volumes import StoredVolume
    from pytest_imagebuild.engines.work import DockerfileWork, Work

__all__ = ["EmbeddedEngine"]


class _Stoppable(Protocol):
    def stop(self) -> None: ...


class EmbeddedEngine:
    """Layers are folders below `cache_dir`, containers are processes that end with this one.

    Nothing is made or started before the first call. Raises EngineUnavailableError where the machine cannot do it.
    """

    name = "embedded"

    def __init__(self, *, run: str, cache_dir: Path) -> None:
        self._run = run
        self._cache_dir = cache_dir.absolute()
        self._opening = threading.Lock()
        self._opened: _Opened | None = None

    def capabilities(self) -> Capabilities:
        """Return what it can do here; the first call tries it."""
        return self._open().capabilities

    def gpus(self) -> GpuInventory:
        """Return the GPUs that its containers can have; the first call looks for them."""
        return self._open().gpus.inventory()

    def layers(self, namespace: str = "") -> Mapping[str, BuiltLayer]:
        """Return every finished layer of a namespace by its key, in one look-up."""
        return self._open().store.index(namespace)

    def find(self, key: str, namespace: str = "") -> BuiltLayer | None:
        """Return the finished layer of a key."""
        record = self._open().store.find(key, namespace)
        return record.layer() if record is not None else None

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
        """Bring the pinned base image into the store, verified, as a layer."""
        with disk_errors("keep a base image", self._cache_dir):
            opened = self._open()
            image = opened.bases.bring(reference, pin, output, credentials)
            return opened.store.keep(labels, image.trees, None, image.config, opened.owner).layer()

    def build(self, parent: BuiltLayer, work: Work, labels: LayerLabels, output: Output) -> BuiltLayer:
        """Execute `work` in a container of `parent` and keep the result as the layer of `labels.key`."""
        with disk_errors("build a layer", self._cache_dir):
            opened = self._open()
            below = opened.store.record(parent.reference)
            check = opened.soundness.begin(below)
            with opened.workshop.done(below, work, output) as (written, _):
                check.wait()
                config = changed(below.config, work.config)
                record = opened.store.keep(labels, below.trees, written, config, opened.owner)
            opened.soundness.trust(record)
            return record.layer()

    def build_dockerfile(
        self, parent: BuiltLayer | None, work: DockerfileWork, labels: LayerLabels, output: Output
    ) -> BuiltLayer:
        """Execute a Dockerfile here, instruction by instruction, and keep the result as the layer of `labels.key`."""
        with disk_errors("build a layer", self._cache_dir):
            opened = self._open()
            below = opened.store.record(parent.reference) if parent is not None else None
            build = opened.dockerfiles
            checks = [opened.soundness.begin(record) for record in build.records(below, work)]
            with build.done(below, work, output) as outcome:
                for check in checks:
                    check.wait()
                record = opened.store.keep(labels, outcome.below, outcome.written, outcome.config, opened.owner)
            opened.soundness.trust(record)
            return record.layer()

    def run(self, parent: BuiltLayer, work: Work, output: Output) -> bytes:
        """Execute `work` in a throw-away container of `parent`; return its standard output."""
        with disk_errors("run a step", self._cache_dir):
            opened = self._open()
            record = opened.store.record(parent.reference)
            check = opened.soundness.begin(record)
            with opened.workshop.done(record, work, output, show=False) as (_, stdout):
                check.wait()
                return stdout

    def start(self, layer: BuiltLayer, spec: SessionSpec) -> SessionContainer:
        """Start a session container."""
        with disk_errors("start a container", self._cache_dir):
            return self._open().start(layer, spec)

    def serve(self, layer: BuiltLayer, spec: ServiceSpec) -> ServiceContainer:
        """Start a service container."""
        with disk_errors("start a service", self._cache_dir):
            return self._open().serve(layer, spec)

    def sweep(self, claimed: Claims = NO_CLAIMS) -> int:
        """Remove what dead runs on this machine left behind; return how many things."""
        opened = self._open()
        swept = opened.housekeeping.sweep(claimed)
        opened.owner.remove_locks_of_dead()
        return swept

    def drop(self, namespace: str) -> None:
        """Remove every layer of a throw-away namespace."""
        if not namespace:
            raise EngineError("the layers of the cache are not thrown away as a whole")
        self._open().housekeeping.drop(namespace)

    def stored(self) -> Sequence[StoredLayer]:
        """Return every finished layer of the cache proper, with the bytes that each holds."""
        return self._open().housekeeping.stored()

    def remnants(self, claimed: Claims = NO_CLAIMS) -> Sequence[Remnant]:
        """Return what no key leads to and no living run can still want, in an order in which it can be removed."""
        return self._open().housekeeping.remnants(claimed)

    def remove(self, item: StoredLayer | Remnant) -> int | None:
        """Remove it and return the bytes freed; None where it stays."""
        housekeeping = self._open().housekeeping
        if isinstance(item, StoredLayer):
            return housekeeping.remove(item.built)
        return housekeeping.remove_remnant(item.name) or 0

    def volumes(self) -> Sequence[StoredVolume]:
        """Return every named volume, sorted by name."""
        return self._open().volumes.stored()

    def has_volume(self, name: str) -> bool:
        """Say whether there is a named volume of that name."""
        return self._open().volumes.has(name)

    def make_volume(self, name: str, *, ephemeral: bool = False) -> None:
        """Have an empty volume of that name, or the one that is there already."""
        with disk_errors("make a volume", self._cache_dir):
            self._open().volumes.make(name, ephemeral=ephemeral)

    def remove_volume(self, name: str) -> int | None:
        """Remove a named volume and return the bytes freed; None where a container has it mounted."""
        with disk_errors("remove a volume", self._cache_dir):
            return self._open().volumes.remove(name)

    def load(self, archive: Path, name: str, output: Output) -> tuple[str, ...]:
        """Bring the images of an archive into the store; return the references under which they are found then."""
        with disk_errors("keep an image", self._cache_dir):
            return self._open().bases.load(archive, name, output)

    def save(self, layer: BuiltLayer, target: Path, name: str, output: Output) -> None:
        """Write the image of a layer to a file."""
        # Few processes of an engine save an image.
        from pytest_imagebuild.engines.oci.saving import bare_config, save, time_text  # noqa: PLC0415

        opened = self._open()
        record = opened.store.record(layer.reference)
        opened.soundness.begin(record).wait()
        config = bare_config(opened.capabilities.platform, time_text(record.created), record.config)
        store = opened.store
        save(target, name, config, [partial(store.files.pack, store.trees / tree.id) for tree in record.trees], output)

    def close(self) -> None:
        """Stop what this process started. Calling it again does nothing."""
        with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _open(self) -> _Opened:
        with self._opening:
            if self._opened is None:
                self._opened = _Opened(run=self._run, cache_dir=self._cache_dir)
            return self._opened


class _Opened:
    """What there is once the machine has been found able."""

    def __init__(self, *, run: str, cache_dir: Path) -> None:
        self._spawner = Spawner()
        self._ids = BegunIds(self._spawner)
        try:
            folder = cache_dir / "embedded"
            bwrap, tried = _bwrap_that_works(cache_dir, folder)
            ids = self._ids.ready()
            self.store = ids.store(folder)
            self.store.prepare()
        except BaseException:
            self._close_ids()
            raise
        self._identity = ids.identity
        self.capabilities = _capabilities(self.store)
        self.owner = Owner(run=run, cache_dir=cache_dir)
        self._launch = Launch(bwrap=bwrap, spawner=self._spawner, tried=tried)
        self.soundness = Soundness(self.store, self._spawner, self._identity)
        self._bounds = Bounds()
        self._rooms = Rooms(self.store, self.owner, self._bounds)
        self._cache_dir = cache_dir
        self._other_stores = tuple(ids.other_stores(folder))
        self._workshop: Workshop | None = None
        self._making = threading.Lock()
        self._running: set[_Stoppable] = set()

    @property
    def workshop(self) -> Workshop:
        """What makes containers that work: of several threads, and `close` stops them all."""
        # A process that only looks up or runs has none.
        from pytest_imagebuild.engines.embedded.work import Workshop  # noqa: PLC0415

        with self._making:
            if self._workshop is None:
                self._workshop = Workshop(self._launch, self._rooms, self.volumes, self.gpus, identity=self._identity)
            return self._workshop

    @cached_property
    def housekeeping(self) -> Housekeeping:
        """What removes."""
        from pytest_imagebuild.engines.embedded.housekeeping import Housekeeping, OtherStore  # noqa: PLC0415

        others = [OtherStore(store, self.owner) for store in self._other_stores]
        return Housekeeping(self.store, self._rooms, self.owner, others)

    @cached_property
    def volumes(self) -> Volumes:
        """The volumes of the store."""
        # Few runs have any.
        from pytest_imagebuild.engines.embedded.volumes import Volumes  # noqa: PLC0415

        return Volumes(self.store, self._rooms)

    @cached_property
    def gpus(self) -> Gpus:
        """The GPUs of this machine."""
        # Few runs ask for any.
        from pytest_imagebuild.engines.embedded.gpus import Gpus  # noqa: PLC0415

        return Gpus()

    @cached_property
    def bases(self) -> Bases:
        """What brings base images."""
        # It loads an HTTP client, which a process that only looks up or runs does not need.
        from pytest_imagebuild.engines.embedded.bases import Bases  # noqa: PLC0415

        return Bases(self.store, self._cache_dir, self.capabilities.platform, self._rooms.scratch)

    @cached_property
    def dockerfiles(self) -> DockerfileBuild:
        """What executes Dockerfiles."""
        # Most processes build none.
        from pytest_imagebuild.engines.embedded.dockerfile.build import DockerfileBuild  # noqa: PLC0415
        from pytest_imagebuild.engines.embedded.dockerfile.running import Runner  # noqa: PLC0415

        return DockerfileBuild(
            store=self.store,
            rooms=self._rooms,
            runner=Runner(self._launch, self._identity, self.workshop.noted),
            platform=self.capabilities.platform,
        )

    def start(self, layer: BuiltLayer, spec: SessionSpec) -> SessionContainer:
        record = self.store.record(layer.reference)
        room = self._rooms.open(record)
        try:
            gpus = self.gpus.lend(room, spec.gpus, variables=spec.environment) if spec.gpus else None
            volumes = self.volumes.mounted(room, spec.volumes) if spec.volumes else ()
            sandbox = room.sandbox(
                variables={**spec.environment, **(gpus.variables if gpus else {})},
                network=spec.network,
                identity=self._identity,
                mounts=(*volumes, *(gpus.mounts if gpus else ())),
                isolate=spec.isolate,
            )
            confinement = room.confine(memory=spec.memory, cpu=spec.cpu)
            process = self._launch.start(sandbox, started_by(record.config, spec.command), confinement=confinement)
        except BaseException:
            room.remove()
            raise
        container = SessionContainer(room, process, self.soundness.begin(record), self._running.discard)
        self._running.add(container)
        return container

    def serve(self, layer: BuiltLayer, spec: ServiceSpec) -> ServiceContainer:
        # Few runs have services.
        from pytest_imagebuild.engines.embedded.service import start_service  # noqa: PLC0415

        record = self.store.record(layer.reference)
        self.soundness.begin(record).wait()
        room = self._rooms.open(record)
        try:
            service = start_service(self._launch, room, spec, identity=self._identity, ended=self._running.discard)
        except BaseException:
            room.remove()
            raise
        self._running.add(service)
        return service

    def close(self) -> None:
        try:
            with self._making:
                workshop = self._workshop
            if workshop is not None:
                workshop.stop_all()
            for container in tuple(self._running):
                container.stop()
        finally:
            self.soundness.close()
            self._bounds.close()
            self._rooms.close()
            self._close_ids()
            self.owner.release()

    def _close_ids(self) -> None:
        self._ids.close()
        self._spawner.close()


def _bwrap_that_works(cache_dir: Path, folder: Path) -> tuple[str, Tried]:
    """Return bubblewrap, and the note in `folder` that it works. Raises EngineUnavailableError where it does not."""
    bwrap = find_bwrap()
    tried = Tried(folder, bwrap or "")
    if bwrap is not None and tried.works():
        return bwrap, tried
    # It is tried by a process: 10 ms that a machine which did it since it was booted need not spend again.
    from pytest_imagebuild.engines.embedded.machine import why_not  # noqa: PLC0415 - as it says

    obstacle = why_not(cache_dir)
    if bwrap is None or obstacle is not None:
        raise EngineUnavailableError(obstacle or "bubblewrap is not installed.")
    tried.note()
    return bwrap, tried


def _capabilities(store: Store) -> Capabilities:
    place = hashlib.sha256(os.fsencode(store.folder.resolve())).hexdigest()[:16]
    return Capabilities(
        engine="embedded",
        version="1",
        platform=platform_of("linux", platform.machine()),
        identity=f"embedded-{place}",
        host_network=True,
        own_network=False,
        host_address="localhost",
        unenforced=unenforced(),
    )
