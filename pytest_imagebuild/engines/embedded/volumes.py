"""Volumes are folders of the store, mounted where containers ask for them.

volumes/NAME/files             what a named one holds
scratch/OWNER/volume-N/files   what an ephemeral one of a process holds; a sweep finds it when that is dead
scratch/OWNER/N/volumes        the named ones that a container has mounted

Their files have the ids of the containers, so each part of the store has volumes of its own.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock

from pytest_imagebuild.engines.embedded.bwrap import Mount
from pytest_imagebuild.engines.embedded.rooms import Room, Rooms
from pytest_imagebuild.engines.embedded.store import Store
from pytest_imagebuild.engines.volumes import StoredVolume, VolumeMount, missing_volume
from pytest_imagebuild.errors import EngineError

__all__ = ["Volumes"]

_FILES = "files"
_MODE = 0o755
"""Of the folder that a container sees: anybody may look, root may write."""


class Volumes:
    """The volumes of one part of the store."""

    def __init__(self, store: Store, rooms: Rooms) -> None:
        self._folder = store.folder / "volumes"
        self._lock = store.folder / "volumes.lock"
        self._files = store.files
        self._rooms = rooms

    def stored(self) -> list[StoredVolume]:
        """Return the named volumes."""
        mounted = self._rooms.volumes()
        found = []
        for folder in sorted(self._folder.iterdir()) if self._folder.is_dir() else ():
            # Somebody may remove it meanwhile.
            with contextlib.suppress(FileNotFoundError):
                found.append(
                    StoredVolume(
                        name=folder.name,
                        size=self._files.disk_usage(folder / _FILES),
                        # Nothing is put in beside its one folder, whose own time changes with what is written there.
                        created=folder.stat().st_mtime,
                        in_use=folder.name in mounted,
                    )
                )
        return found

    def has(self, name: str) -> bool:
        """Say whether there is a named volume of that name."""
        return (self._named(name) / _FILES).is_dir()

    def make(self, name: str, *, ephemeral: bool) -> None:
        """Have a volume of that name."""
        if ephemeral:
            _make(self._rooms.beside(f"volume-{name}"))
            return
        target = self._named(name)
        if self.has(name):
            return
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with self._rooms.scratch() as scratch:
            # It appears in one step, and whoever comes second finds it there.
            partial = scratch / "volume"
            partial.mkdir(mode=0o700)
            _make(partial)
            try:
                partial.rename(target)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise

    def remove(self, name: str) -> int | None:
        """Remove a named volume; return the bytes freed, None where a container has it mounted."""
        with self._rooms.scratch() as scratch:
            going = scratch / "volume"
            with self._locked():
                if name in self._rooms.volumes():
                    return None
                try:
                    self._named(name).rename(going)
                except FileNotFoundError:
                    return 0
            return self._files.disk_usage(going / _FILES)

    def mounted(self, room: Room, wanted: Sequence[VolumeMount]) -> tuple[Mount, ...]:
        """Return the mounts of volumes in a container, which counts as having them from now on.

        Raises EngineError for a volume that is not there, and for a path that cannot be a folder in the image.
        """
        if not wanted:
            return ()
        # Noted and looked for while nobody removes one.
        with self._locked():
            room.note_volumes(mount.name for mount in wanted if not mount.ephemeral)
            sources = [self._source(mount) for mount in wanted]
        return tuple(self._mount(room, mount, source) for mount, source in zip(wanted, sources, strict=True))

    def _mount(self, room: Room, mount: VolumeMount, source: Path) -> Mount:
        if not any(found and found.is_folder for found in room.upper.find(mount.path)):
            room.upper.make_folder(mount.path)
        # A link of an image must lead nowhere but inside, so it is the place without links that is mounted on.
        return Mount(source=source, target=room.upper.destination(mount.path), writable=not mount.read_only)

    def _source(self, mount: VolumeMount) -> Path:
        folder = self._rooms.beside(f"volume-{mount.name}") if mount.ephemeral else self._named(mount.name)
        if not (folder / _FILES).is_dir():
            raise missing_volume(mount)
        return folder / _FILES

    def _named(self, name: str) -> Path:
        if "/" in name or name in ("", ".", ".."):
            raise EngineError(f"{name!r} cannot name a volume: letters, digits, '_', '.' and '-' can")
        return self._folder / name

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with FileLock(self._lock):
            yield


def _make(folder: Path) -> None:
    files = folder / _FILES
    files.mkdir(exist_ok=True)
    files.chmod(_MODE)
