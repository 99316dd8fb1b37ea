"""The engine without a daemon."""

from __future__ import annotations

import hashlib
import os
import platform
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pytest_imagebuild.engines.configuration import changed
from pytest_imagebuild.engines.embedded.bounds import Bounds
from pytest_imagebuild.engines.embedded.bwrap import find_bwrap
from pytest_imagebuild.engines.embedded.disk import disk_errors
from pytest_imagebuild.engines.embedded.housekeeping import Housekeeping, OtherStore
from pytest_imagebuild.engines.embedded.ids import BegunIds
from pytest_imagebuild.engines.embedded.limits import unenforced
from pytest_imagebuild.engines.embedded.machine import why_not
from pytest_imagebuild.engines.embedded.process import Launch
from pytest_imagebuild.engines.embedded.rooms import Rooms
from pytest_imagebuild.engines.embedded.service import ServiceContainer, start_service
from pytest_imagebuild.engines.embedded.session import SessionContainer
from pytest_imagebuild.engines.embedded.soundness import Soundness
from pytest_imagebuild.engines.embedded.spawner import Spawner
from pytest_imagebuild.engines.embedded.store import Store
from pytest_imagebuild.engines.embedded.tried import Tried
from pytest_imagebuild.engines.embedded.work import Workshop
from pytest_imagebuild.engines.owner import Owner
from pytest_imagebuild.engines.protocol import (
    BasePin,
    BuiltLayer,
    Capabilities,
    LayerLabels,
    Output,
    Remnant,
    ServiceSpec,
    SessionSpec,
    StoredLayer,
    Work,
)
from pytest_imagebuild.errors import EngineError, EngineUnavailableError

if TYPE_CHECKING:
    from pytest_imagebuild.engines.embedded.bases import Bases

__all__ = ["EmbeddedEngine"]

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i386": "386", "i686": "386"}


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

    def layers(self, namespace: str = "") -> Mapping[str, BuiltLayer]:
        """Return every finished layer of a namespace by its key, in one look-up."""
        return {record.labels.key: record.layer() for record in self._open().store.records(namespace)}

    def find(self, key: str, namespace: str = "") -> BuiltLayer | None:
        """Return the finished layer of a key."""
        record = self._open().store.find(key, namespace)
        return record.layer() if record is not None else None

    def pin_base(self, reference: str, output: Output) -> BasePin:
        """Ask what `reference` stands for today."""
        return self._open().bases.pin(reference, output)

    def import_base(self, reference: str, pin: BasePin, labels: LayerLabels, output: Output) -> BuiltLayer:
        """Bring the pinned base image into the store, verified, as a layer."""
        with disk_errors("keep a base image", self._cache_dir):
            opened = self._open()
            image = opened.bases.bring(reference, pin, output)
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

    def sweep(self) -> int:
        """Remove what dead runs on this machine left behind; return how many things."""
        return self._open().housekeeping.sweep()

    def drop(self, namespace: str) -> None:
        """Remove every layer of a throw-away namespace."""
        if not namespace:
            raise EngineError("the layers of the cache are not thrown away as a whole")
        self._open().housekeeping.drop(namespace)

    def stored(self) -> Sequence[StoredLayer]:
        """Return every finished layer of the cache proper, with the bytes that each holds."""
        return self._open().housekeeping.stored()

    def remnants(self) -> Sequence[Remnant]:
        """Return what no key leads to and no living run can still want, in an order in which it can be removed."""
        return self._open().housekeeping.remnants()

    def remove(self, item: StoredLayer | Remnant) -> int | None:
        """Remove it and return the bytes freed; None where it stays."""
        housekeeping = self._open().housekeeping
        if isinstance(item, StoredLayer):
            return housekeeping.remove(item.built)
        return housekeeping.remove_remnant(item.name) or 0

    def load(self, archive: Path, name: str, output: Output) -> tuple[str, ...]:
        """Bring the images of an archive into the store; return the references under which they are found then."""
        with disk_errors("keep an image", self._cache_dir):
            return self._open().bases.load(archive, name, output)

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
            bwrap = _bwrap_that_works(cache_dir)
            ids = self._ids.ready()
            folder = cache_dir / "embedded"
            self.store = ids.store(folder)
            self.store.prepare()
        except BaseException:
            self._close_ids()
            raise
        self._identity = ids.identity
        self.capabilities = _capabilities(self.store)
        self.owner = Owner(run=run, cache_dir=cache_dir)
        self._launch = Launch(bwrap=bwrap, spawner=self._spawner, tried=Tried(folder, bwrap))
        self.soundness = Soundness(self.store, self._spawner, self._identity)
        self._bounds = Bounds()
        self._rooms = Rooms(self.store, self.owner, self._bounds)
        self._cache_dir = cache_dir
        others = [OtherStore(store, self.owner) for store in ids.other_stores(folder)]
        self.housekeeping = Housekeeping(self.store, self._rooms, self.owner, others)
        self.workshop = Workshop(self._launch, self._rooms, identity=self._identity)
        self._running: set[_Stoppable] = set()

    @cached_property
    def bases(self) -> Bases:
        """What brings base images."""
        # It loads an HTTP client, which a process that only looks up or runs does not need.
        from pytest_imagebuild.engines.embedded.bases import Bases  # noqa: PLC0415

        return Bases(self.store, self._cache_dir, self.capabilities.platform, self._rooms.scratch)

    def start(self, layer: BuiltLayer, spec: SessionSpec) -> SessionContainer:
        record = self.store.record(layer.reference)
        room = self._rooms.open(record)
        try:
            sandbox = room.sandbox(
                variables=spec.environment, network=spec.network, identity=self._identity, isolate=spec.isolate
            )
            confinement = room.confine(memory=spec.memory, cpu=spec.cpu)
            process = self._launch.start(sandbox, spec.command, confinement=confinement)
        except BaseException:
            room.remove()
            raise
        container = SessionContainer(room, process, self.soundness.begin(record), self._running.discard)
        self._running.add(container)
        return container

    def serve(self, layer: BuiltLayer, spec: ServiceSpec) -> ServiceContainer:
        room = self._rooms.open(self.store.record(layer.reference))
        try:
            service = start_service(self._launch, room, spec, identity=self._identity, ended=self._running.discard)
        except BaseException:
            room.remove()
            raise
        self._running.add(service)
        return service

    def close(self) -> None:
        try:
            self.workshop.stop_all()
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


def _bwrap_that_works(cache_dir: Path) -> str:
    bwrap = find_bwrap()
    tried = Tried(cache_dir / "embedded", bwrap or "")
    if bwrap is not None and tried.works():
        return bwrap
    # It is tried by a process: 10 ms that a machine which did it since it was booted need not spend again.
    obstacle = why_not(cache_dir)
    if bwrap is None or obstacle is not None:
        raise EngineUnavailableError(obstacle or "bubblewrap is not installed.")
    tried.note()
    return bwrap


def _capabilities(store: Store) -> Capabilities:
    machine = platform.machine()
    place = hashlib.sha256(os.fsencode(store.folder.resolve())).hexdigest()[:16]
    return Capabilities(
        engine="embedded",
        version="1",
        platform=f"linux/{_ARCHITECTURES.get(machine, machine)}",
        identity=f"embedded-{place}",
        host_network=True,
        own_network=False,
        unenforced=unenforced(),
    )
