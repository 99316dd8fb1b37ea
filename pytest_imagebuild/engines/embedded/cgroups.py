"""Control groups: what all processes of a container may use together.

Both versions of the kernel's interface are known, and the mixture of them. A group is made beside or below the one of
this process, in the first folder where this process may: at the top as root, in the part that systemd delegates to a
user (`user@.service`), nowhere on most other machines. The rules are in the kernel's `admin-guide/cgroup-v2.rst`
("Delegation", "No Internal Process Constraint") and `admin-guide/cgroup-v1/`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["Cgroup", "sweep"]

_PREFIX = "imagebuild-"
_CPU_PERIOD = 100_000
_KILL_SECONDS = 5.0
_REMOVE_SECONDS = 2.0

_ENTER = 'n=$1; shift; while [ "$n" -gt 0 ]; do echo 0 > "$1" || exit 126; shift; n=$((n - 1)); done; exec "$@"'
"""Moves itself into groups, then becomes a command. A process is moved by itself: no one else races with its forks."""


class _Hierarchy(NamedTuple):
    """A mounted tree of groups. `parents` are where this process might make one, the nearest first.

    In version 2 these are its own group and those above; in version 1, where nothing is delegated, its own alone.
    `controllers` are those of version 1; in version 2 each group has its own.
    """

    version: int
    controllers: frozenset[str]
    parents: tuple[Path, ...]


class _Place(NamedTuple):
    """A folder in which groups can be made, and the controllers that it can give them."""

    folder: Path
    version: int
    controllers: frozenset[str]


class Cgroup:
    """The group of one container: a folder, in version 1 one for each controller."""

    def __init__(self, folders: Mapping[Path, frozenset[str]]) -> None:
        self._folders = folders
        self.holds: frozenset[str] = frozenset().union(*folders.values())
        """Which of `memory`, `cpu` and `pids` are held to their limits."""

    @classmethod
    def create(
        cls, name: str, *, memory: int | None = None, cpu: float | None = None, pids: int | None = None
    ) -> Cgroup | None:
        """Make a group that holds as many of the limits as this machine lets it; None where it would hold none.

        `name` is what `sweep` tells the dead from the living by. `memory` is in bytes, swap included, `cpu` in cores.
        """
        limits = {
            controller: value
            for controller, value in (("memory", memory), ("cpu", cpu), ("pids", pids))
            if value is not None
        }
        folders: dict[Path, frozenset[str]] = {}
        for place in _places(frozenset(limits)):
            folder = place.folder / f"{_PREFIX}{name}"
            try:
                folder.mkdir()
            except OSError:
                continue
            held = frozenset(each for each in place.controllers if _limit(folder, place.version, each, limits[each]))
            if held:
                folders[folder] = held
            else:
                _remove(folder)
        return cls(folders) if folders else None

    def enter(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` in this group. It ends with 126 where the group cannot be entered."""
        files = [str(folder / "cgroup.procs") for folder in self._folders]
        return ["/bin/sh", "-c", _ENTER, "sh", str(len(files)), *files, *argv]

    def add(self, pid: int) -> None:
        """Move a running process into the group; one that is gone needs none. What it forks from now on is in it."""
        for folder in self._folders:
            with contextlib.suppress(ProcessLookupError):
                (folder / "cgroup.procs").write_text(str(pid), encoding="ascii")

    def out_of_memory(self) -> bool:
        """Say whether the kernel has killed a process of the group for want of memory."""
        return any(
            _counter(folder / name, "oom_kill") > 0
            for folder in self._folders
            for name in ("memory.events", "memory.oom_control")
        )

    def kill(self) -> None:
        """Kill every process in the group, also those that are being forked meanwhile."""
        for folder in self._folders:
            _kill(folder)

    def remove(self) -> None:
        """Remove the group once its processes are gone; what the kernel does not let go of, `sweep` finds."""
        for folder in self._folders:
            _remove(folder)


def sweep(is_dead: Callable[[str], bool]) -> int:
    """Kill and remove the groups whose name is of a dead owner; return how many there were."""
    swept: set[str] = set()
    for parent in dict.fromkeys(parent for hierarchy in _hierarchies() for parent in hierarchy.parents):
        for folder in parent.glob(f"{_PREFIX}*"):
            name = folder.name.removeprefix(_PREFIX)
            if name in swept or is_dead(name):
                _kill(folder)
                _remove(folder)
                swept.add(name)
    return len(swept)


def _places(wanted: frozenset[str]) -> Iterator[_Place]:
    """Yield where groups with the `wanted` controllers can be made; no controller twice."""
    for hierarchy in _hierarchies():
        found = [place for parent in hierarchy.parents if (place := _place(hierarchy, parent, wanted)) is not None]
        if best := max(found, key=lambda place: len(place.controllers), default=None):
            wanted -= best.controllers
            yield best


def _hierarchies() -> Iterator[_Hierarchy]:
    own = _own_paths()
    for version, controllers, root, top in _mounts():
        path = own.get(controllers)
        if path is None or os.path.commonpath([path, root]) != root:
            continue
        folder = Path(os.path.normpath(top / os.path.relpath(path, root)))
        above = (folder, *folder.parents)
        parents = above[: above.index(top) + 1] if version == 2 else above[:1]
        yield _Hierarchy(version=version, controllers=controllers, parents=parents)


def _own_paths() -> dict[frozenset[str], str]:
    """Return the group of this process in each hierarchy, by the controllers of that: none in version 2."""
    lines = (line.split(":", 2) for line in _read(Path("/proc/self/cgroup")).splitlines())
    return {_known(controllers): path for number, controllers, path in lines if number == "0" or _known(controllers)}


def _mounts() -> Iterator[tuple[int, frozenset[str], str, Path]]:
    """Yield version, controllers, root and mount point of every hierarchy (proc(5), mountinfo)."""
    for line in _read(Path("/proc/self/mountinfo")).splitlines():
        mount, _, filesystem = line.partition(" - ")
        kind, _, options = filesystem.split(" ", 2)
        root, top = mount.split(" ")[3:5]
        if kind == "cgroup2":
            yield 2, frozenset(), root, Path(top)
        elif kind == "cgroup" and (controllers := _known(options)):
            yield 1, controllers, root, Path(top)


def _known(controllers: str) -> frozenset[str]:
    return frozenset(controllers.split(",")) & {"memory", "cpu", "pids"}


def _place(hierarchy: _Hierarchy, folder: Path, wanted: frozenset[str]) -> _Place | None:
    if not (os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK)):
        return None
    there = _delegated(folder, wanted) if hierarchy.version == 2 else hierarchy.controllers & wanted
    return _Place(folder=folder, version=hierarchy.version, controllers=there) if there else None


def _delegated(folder: Path, wanted: frozenset[str]) -> frozenset[str]:
    """Let the groups below a folder of version 2 have controllers; return those that they have."""
    control = folder / "cgroup.subtree_control"
    available = wanted & set(_read(folder / "cgroup.controllers").split())
    for controller in available - set(_read(control).split()):
        # Refused where the folder has processes of its own, or is another user's.
        _write(control, f"+{controller}")
    return available & set(_read(control).split())


def _limit(folder: Path, version: int, controller: str, value: float) -> bool:
    if controller == "pids":
        return _write(folder / "pids.max", str(int(value)))
    if controller == "memory":
        if version == 1:
            held = _write(folder / "memory.limit_in_bytes", str(int(value)))
            # Not there where the kernel does not count swap.
            _write(folder / "memory.memsw.limit_in_bytes", str(int(value)))
            return held
        _write(folder / "memory.swap.max", "0")
        return _write(folder / "memory.max", str(int(value)))
    quota = max(1000, round(value * _CPU_PERIOD))
    if version == 1:
        return _write(folder / "cpu.cfs_period_us", str(_CPU_PERIOD)) and _write(
            folder / "cpu.cfs_quota_us", str(quota)
        )
    return _write(folder / "cpu.max", f"{quota} {_CPU_PERIOD}")


def _kill(folder: Path) -> None:
    if _write(folder / "cgroup.kill", "1"):
        return
    # Whoever is not dead yet cannot outrun the loop by forking.
    _write(folder / "pids.max", "0")
    end = time.monotonic() + _KILL_SECONDS
    while (processes := _processes(folder)) and time.monotonic() < end:
        for process in processes:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.002)


def _processes(folder: Path) -> list[int]:
    found = [int(line) for parent, _, _ in os.walk(folder) for line in _read(Path(parent, "cgroup.procs")).split()]
    # Zero is a process of another pid namespace, and would be every process of our own group.
    return [process for process in found if process > 0]


def _remove(folder: Path) -> None:
    end, pause = time.monotonic() + _REMOVE_SECONDS, 0.0005
    while folder.exists():
        # A killed process leaves its group only when the kernel has torn it down.
        for parent, _, _ in os.walk(folder, topdown=False):
            with contextlib.suppress(OSError):
                Path(parent).rmdir()
        if time.monotonic() > end:
            return
        if folder.exists():
            time.sleep(pause)
            pause = min(pause * 2, 0.05)


def _counter(file: Path, name: str) -> int:
    pairs = dict(line.split(" ", 1) for line in _read(file).splitlines() if " " in line)
    return int(pairs.get(name, 0))


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", errors="replace")
    except OSError:
        return ""


def _write(file: Path, text: str) -> bool:
    """Write to a file of the kernel, which must not be made. Returns whether it took it."""
    try:
        descriptor = os.open(file, os.O_WRONLY)
    except OSError:
        return False
    try:
        os.write(descriptor, text.encode("ascii"))
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
