"""GPUs in containers: nodes in the container's own /dev, and files of the driver mounted where its vendor says."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_imagebuild.engines.configuration import variables_of
from pytest_imagebuild.engines.embedded.bwrap import Mount
from pytest_imagebuild.engines.embedded.rooms import Room
from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.gpus.inventory import Gpu, GpuInventory, visible
from pytest_imagebuild.errors import EngineError

if TYPE_CHECKING:
    from pytest_imagebuild.engines.gpus.host import HostGpu, HostGpus
    from pytest_imagebuild.engines.gpus.placement import Placement

__all__ = ["Gpus", "LentGpus"]

_SEARCH_PATH = "LD_LIBRARY_PATH"


@dataclass(frozen=True, kw_only=True, slots=True)
class LentGpus:
    """What one container gets. `points` and `folders` were made in the room for the mounts, to be taken out again."""

    mounts: tuple[Mount, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    points: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


class Gpus:
    """The GPUs of this machine, looked for when they are first asked for."""

    @cached_property
    def _host(self) -> HostGpus:
        # Few runs ask for GPUs.
        from pytest_imagebuild.engines.gpus.host import host_gpus  # noqa: PLC0415

        return host_gpus()

    def inventory(self) -> GpuInventory:
        """Return what containers can have."""
        gpus = tuple(replace(found.gpu, lost=_placement(found).lost) for found in self._host.gpus)
        return GpuInventory(gpus=gpus, looked_at=self._host.looked_at)

    def lend(self, room: Room, ids: Sequence[str], *, variables: Mapping[str, str]) -> LentGpus:
        """Make the places of their mounts in `room`. `variables` are given to the container already, and win.

        Raises EngineError for a GPU that is not here, or a file that its specification names and that is gone.
        """
        if not ids:
            return LentGpus()
        chosen = [self._find(each) for each in ids]
        placed = reduce(add, map(_placement, chosen))
        nodes = [Mount(source=_there(node.source), target=node.path, device=True) for node in placed.nodes]
        files = [
            Mount(source=_there(each.source), target=each.target, writable=each.writable) for each in placed.mounts
        ]
        mounts, points, folders = _make_points(room, [*nodes, *files])
        return LentGpus(
            mounts=mounts,
            variables=_variables(room, placed, [each.gpu for each in chosen], variables),
            points=points,
            folders=folders,
        )

    def _find(self, identity: str) -> HostGpu:
        for found in self._host.gpus:
            if found.gpu.id == identity:
                return found
        raise EngineError(f"this machine has no GPU {identity!r}; it has {_names(self._host) or 'none'}.")


def _placement(found: HostGpu) -> Placement:
    from pytest_imagebuild.engines.gpus.driver import driver_placement  # noqa: PLC0415
    from pytest_imagebuild.engines.gpus.placement import placement  # noqa: PLC0415

    if found.cdi is not None:
        return placement(found.cdi.shared + found.cdi.edits)
    return driver_placement([found.driver] if found.driver is not None else [])


def _names(host: HostGpus) -> str:
    return ", ".join(found.gpu.id for found in host.gpus)


def _there(source: str) -> Path:
    path = Path(source)
    if not path.exists():
        raise EngineError(
            f"a GPU needs {source}, which is not there. Make its specification again, for NVIDIA's by `nvidia-ctk cdi "
            "generate`, or look at its driver."
        )
    return path


def _make_points(room: Room, mounts: Sequence[Mount]) -> tuple[tuple[Mount, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the mounts at places without links, and the files and folders that were made for them in the image."""
    placed, points, folders = [], [], []
    for mount in mounts:
        target = posixpath.normpath(mount.target)
        if target.startswith("/dev/"):
            placed.append(mount._replace(target=target))  # bubblewrap makes it there, outside the image
            continue
        where = room.upper.destination(target)
        if room.upper.find(where) == [None]:
            above = where if mount.source.is_dir() else posixpath.dirname(where)
            folders += room.upper.make_folder(above)
            if not mount.source.is_dir():
                room.upper.put([FileEntry(path=where, mode=0o755, data=b"")])
                points.append(where)
        placed.append(mount._replace(target=where))
    return tuple(placed), tuple(points), tuple(reversed(folders))


def _variables(room: Room, placed: Placement, gpus: Sequence[Gpu], variables: Mapping[str, str]) -> dict[str, str]:
    before = {**variables_of(room.record.config), **variables}
    found = {**dict(placed.environment), **visible(gpus)}
    searched = (before.get(_SEARCH_PATH, ""), found.pop(_SEARCH_PATH, ""), *placed.library_folders)
    folders = list(dict.fromkeys(folder for text in searched for folder in text.split(":") if folder))
    extra = {name: value for name, value in found.items() if name not in variables}
    return {**extra, _SEARCH_PATH: ":".join(folders)} if folders else extra
