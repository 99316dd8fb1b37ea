"""Places where containers write: one folder each, below one of this process, which a sweep finds when it is dead.

scratch/OWNER/owner.json     who it is: the labels of its lock
scratch/OWNER/N/layer        the reference of the layer that the container runs
scratch/OWNER/N/upper, work  of its overlay mount
scratch/OWNER/N/etc/*        its own hosts, hostname and resolv.conf
scratch/OWNER/N/volumes      the names of the volumes that it has mounted
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_imagebuild.engines.configuration import workdir_of
from pytest_imagebuild.engines.embedded.bounds import Bound, Bounds
from pytest_imagebuild.engines.embedded.bwrap import Mount, Sandbox
from pytest_imagebuild.engines.embedded.config import environment_of
from pytest_imagebuild.engines.embedded.files import Files, Stack, UpperFolder
from pytest_imagebuild.engines.embedded.identity import Identity
from pytest_imagebuild.engines.embedded.limits import Confinement, confine
from pytest_imagebuild.engines.embedded.limits import sweep as sweep_groups
from pytest_imagebuild.engines.embedded.store import Record, Store
from pytest_imagebuild.engines.owner import LOCK, Owner
from pytest_imagebuild.errors import EngineError
from pytest_imagebuild.worker.places import IMAGE, SCRATCH

__all__ = ["Room", "Rooms"]

# What the kernel's file systems are mounted on; in an image, a link of this name could lead anywhere.
_MOUNT_POINTS = ("/proc", "/dev", "/sys")
# Nothing takes longer to be made.
_SETTLED_SECONDS = 60
_PIDS_LIMIT = 4096
_NAMES = ("hosts", "hostname", "resolv.conf")


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """Where one container writes."""

    folder: Path
    record: Record
    upper: UpperFolder
    files: Files
    hostname: str
    bounds: Bounds
    trees: tuple[Path, ...]

    def sandbox(
        self,
        *,
        variables: Mapping[str, str],
        network: str,
        identity: Identity,
        mounts: tuple[Mount, ...] = (),
        isolate: bool = False,
    ) -> Sandbox:
        """Return the container of this place. `variables` go on top of the image's, `mounts` on top of its files.

        With `isolate` it has the two mounts of `worker/isolation.py`.
        """
        if isolate:
            scratch = self.folder / "copies"
            scratch.mkdir()
            mounts = (*mounts, Mount(source=scratch, target=str(SCRATCH), writable=True))
        return Sandbox(
            trees=self.trees,
            upper=self.upper.folder,
            work=self.folder / "work",
            hostname=self.hostname,
            workdir=workdir_of(self.record.config),
            environment={**environment_of(self.record.config, self.upper, self.hostname), **variables},
            own_network=network == "none",
            identity=identity,
            mounts=(*self._network_files(), *mounts),
            root_again=str(IMAGE) if isolate else "",
        )

    def lend(self, name: str, text: str, target: str) -> Mount:
        """Return a small file that is not in the image, for a container to see at `target`."""
        source = self.folder / name
        source.write_text(text, encoding="utf-8")
        return Mount(source=source, target=target)

    def note_volumes(self, names: Iterable[str]) -> None:
        """Note the volumes that the container has mounted: they are in use while its process lives."""
        (self.folder / "volumes").write_text("\n".join(names), encoding="utf-8")

    def confine(self, *, memory: int | None = None, cpu: float | None = None) -> Confinement | Bound:
        """Make the limits of the container: `memory` in bytes, `cpu` in cores. The number of processes is bounded."""
        name = f"{self.folder.parent.name}-{self.folder.name}"
        # Root is held to a number of processes by a control group only; an ordinary user by a resource limit.
        if memory is None and cpu is None and os.geteuid() == 0:
            return self.bounds.of(name, _PIDS_LIMIT)
        return confine(name, memory=memory, cpu=cpu, pids=_PIDS_LIMIT)

    def remove(self) -> None:
        """Remove what the container wrote."""
        self.files.remove(self.folder)

    def _network_files(self) -> Iterator[Mount]:
        folder = self.folder / "etc"
        folder.mkdir(exist_ok=True)
        (folder / "hostname").write_text(f"{self.hostname}\n", encoding="utf-8")
        (folder / "hosts").write_text(_hosts(self.hostname), encoding="utf-8")
        (folder / "resolv.conf").write_text(_read("/etc/resolv.conf"), encoding="utf-8")
        # A link of an image must lead nowhere but inside, so it is the place without links that is mounted on.
        for name, found in zip(_NAMES, self.upper.find(*(f"/etc/{name}" for name in _NAMES)), strict=True):
            if found is not None and not found.is_folder:
                yield Mount(source=folder / name, target=found.path, writable=True)


class Rooms:
    """The places of this process."""

    def __init__(self, store: Store, owner: Owner, bounds: Bounds) -> None:
        self._bounds = bounds
        self._store = store
        self._files = store.files
        self._owner = owner
        self._scratch = store.folder / "scratch"
        self._folder = self._scratch / Path(owner.labels[LOCK]).stem
        self._numbers = itertools.count(1)
        self._making = threading.Lock()

    def open(self, record: Record, above: tuple[Path, ...] = ()) -> Room:
        """Make a place for a container of a layer. Raises EngineError where the image cannot be run.

        `above` are folders on top of the layer that are in no layer yet, the uppermost first.
        """
        folder = self._make(record.id)
        try:
            (folder / "work").mkdir()
            trees = (*above, *self._store.stack(record, folder / "upper", above), self._store.floor)
            stack = Stack(upper=folder / "upper", trees=trees)
            self._files.make_upper(stack)
            room = Room(
                folder=folder,
                record=record,
                upper=UpperFolder(self._files, stack),
                files=self._files,
                hostname=f"{record.labels.key[:8]}-{folder.name}".lower().replace("_", "-"),
                bounds=self._bounds,
                trees=trees,
            )
            _check(room)
        except BaseException:
            self._files.remove(folder)
            raise
        return room

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Make a folder that is gone afterwards, whatever happens to this process."""
        folder = self._make("")
        try:
            yield folder
        finally:
            self._files.remove(folder)

    def beside(self, name: str) -> Path:
        """Return a folder of that name, which is no number, beside the places; it goes when this process does."""
        with self._making:
            self._have_folder()
            folder = self._folder / name
            folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def in_use(self) -> set[str]:
        """Return the references of the layers that living processes run containers of, this one included."""
        return set(self._noted("layer"))

    def volumes(self) -> set[str]:
        """Return the names of the volumes that containers of living processes have mounted."""
        return {name for text in self._noted("volumes") for name in text.split()}

    def sweep(self) -> int:
        """Remove the places of dead processes, and their control groups; return how many places there were."""
        count = 0
        dead = list(self.dead_runs())
        for folder in dead:
            count += sum(1 for place in _listed(folder) if place.is_dir())
            self._files.remove(folder)
        if dead:
            owners = tuple(f"{folder.name}-" for folder in dead)
            sweep_groups(lambda name: name.startswith(owners))
        return count

    def close(self) -> None:
        """Remove the places of this process."""
        self._files.remove(self._folder)

    def dead_runs(self) -> Iterator[Path]:
        """Return the places of dead processes."""
        return (folder for folder in self._others() if self._is_dead(folder))

    def are_lived_in(self) -> bool:
        """Say whether another living process has places here."""
        return any(not self._is_dead(folder) for folder in self._others())

    def _make(self, layer: str) -> Path:
        with self._making:
            self._have_folder()
            folder = self._folder / str(next(self._numbers))
            folder.mkdir()
        try:
            (folder / "layer").write_text(layer, encoding="utf-8")
        except OSError:
            self._files.remove(folder)
            raise
        return folder

    def _have_folder(self) -> None:
        if not self._folder.exists():
            partial = self._scratch / f".{self._folder.name}"
            partial.mkdir(mode=0o700)
            (partial / "owner.json").write_text(json.dumps(dict(self._owner.labels)), encoding="utf-8")
            partial.rename(self._folder)

    def _noted(self, name: str) -> Iterator[str]:
        """Return what is noted of the containers of living processes."""
        for owner in _listed(self._scratch):
            texts = [text for place in _listed(owner) if (text := _read(str(place / name)))]
            if texts and not self._is_dead(owner):
                yield from texts

    def _others(self) -> list[Path]:
        return [folder for folder in _listed(self._scratch) if folder != self._folder]

    def _is_dead(self, folder: Path) -> bool:
        if folder == self._folder:
            return False
        try:
            labels = json.loads((folder / "owner.json").read_bytes())
        except (OSError, ValueError):
            # It is being made or removed right now, or its maker was killed in the middle.
            return _is_old(folder)
        return isinstance(labels, dict) and self._owner.is_dead(labels)


def _check(room: Room) -> None:
    for path, found in zip(_MOUNT_POINTS, room.upper.find(*_MOUNT_POINTS, follow=False), strict=True):
        if found is None or not found.is_folder:
            raise EngineError(f"a container of this image cannot be started: {path} in it is not a folder")
    workdir = workdir_of(room.record.config)
    if room.upper.find(workdir) == [None]:
        room.upper.make_folder(workdir)


def _is_old(folder: Path) -> bool:
    try:
        return folder.stat().st_mtime < time.time() - _SETTLED_SECONDS
    except FileNotFoundError:
        return False


def _hosts(hostname: str) -> str:
    return f"{_read('/etc/hosts').rstrip()}\n127.0.1.1\t{hostname}\n"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _listed(folder: Path) -> list[Path]:
    """Return what is in a folder, which another process may remove meanwhile."""
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
