"""What a container may use, and what of that can be held on this machine.

A control group holds it for all processes together. Where none can be had, resource limits are what is left: of memory
for each process alone, of processes for an ordinary user, of processor time nothing.
"""

from __future__ import annotations

import os
import resource
import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pytest_imagebuild.engines.embedded.cgroups import Cgroup, sweep

__all__ = ["Cgroup", "Confinement", "Rlimits", "confine", "rlimits", "sweep", "unenforced"]

_ENTER = """\
[ -z "$1" ] || ulimit -d "$1" || exit 126
[ -z "$2" ] || ulimit -u "$2" 2>/dev/null || ulimit -p "$2" || exit 126
shift 2
exec "$@"
"""
"""Limits itself, then becomes a command. The number of processes is -u in bash and busybox, -p in dash."""


class Rlimits(NamedTuple):
    """Resource limits of a container's processes. `memory` is in bytes, of each process; None is no limit.

    `processes` is what the user may have on the whole machine, threads included, as the kernel counts them.
    """

    memory: int | None = None
    processes: int | None = None

    def values(self) -> Mapping[int, int]:
        """Return the limits by their number in `resource`, as `resource.prlimit` takes them."""
        # Not RLIMIT_AS: Go, Java and Node reserve far more addresses than they use.
        pairs = ((resource.RLIMIT_DATA, self.memory), (resource.RLIMIT_NPROC, self.processes))
        return {number: value for number, value in pairs if value is not None}

    def enter(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` under these limits. It ends with 126 where they cannot be set."""
        if not self.values():
            return list(argv)
        kibibytes = "" if self.memory is None else str(max(1, self.memory // 1024))
        processes = "" if self.processes is None else str(self.processes)
        return ["/bin/sh", "-c", _ENTER, "sh", kibibytes, processes, *argv]


def rlimits(*, memory: int | None = None, pids: int | None = None) -> Rlimits:
    """Return the resource limits that come closest. Root is not held to a number of processes."""
    ordinary = os.geteuid() != 0
    return Rlimits(memory=memory, processes=pids + _threads_of_user() if pids is not None and ordinary else None)


class Confinement(NamedTuple):
    """The limits of one container, held by whatever can hold them."""

    cgroup: Cgroup | None
    rlimits: Rlimits

    def enter(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` within the limits. It ends with 126 where they cannot be set."""
        limited = self.rlimits.enter(argv)
        return limited if self.cgroup is None else self.cgroup.enter(limited)

    def settle(self, pid: int) -> None:
        """Do nothing: the limits hold since the start."""

    def out_of_memory(self) -> bool:
        """Say whether the kernel has killed a process of the container for want of memory. Ask before `remove`."""
        return self.cgroup is not None and self.cgroup.out_of_memory()

    def kill(self) -> None:
        """Kill the processes of the container, as far as a group knows them."""
        if self.cgroup is not None:
            self.cgroup.kill()

    def remove(self) -> None:
        """Remove what was made, once the processes are gone."""
        if self.cgroup is not None:
            self.cgroup.remove()


def confine(name: str, *, memory: int | None = None, cpu: float | None = None, pids: int | None = None) -> Confinement:
    """Make the limits of a container: `memory` in bytes, swap included, `cpu` in cores. See `Cgroup.create`."""
    cgroup = Cgroup.create(name, memory=memory, cpu=cpu, pids=pids)
    held: frozenset[str] = cgroup.holds if cgroup is not None else frozenset()
    return Confinement(
        cgroup=cgroup,
        rlimits=rlimits(memory=None if "memory" in held else memory, pids=None if "pids" in held else pids),
    )


@cache
def unenforced() -> Mapping[str, str]:
    """Return, for `Capabilities`, why `memory` and `cpu` cannot be held here, and what helps."""
    probe = Cgroup.create(f"probe-{uuid.uuid4().hex}", memory=1 << 30, cpu=1.0)
    held: frozenset[str] = frozenset()
    if probe is not None:
        held = probe.holds
        probe.remove()
    sentences = {
        "memory": "Each process of a container may use as much",
        "cpu": "A container may use every core",
    }
    return {name: f"{sentence}: {_why()}" for name, sentence in sentences.items() if name not in held}


def _why() -> str:
    if os.geteuid() == 0:
        return (
            "no control group can be made here, because /sys/fs/cgroup is missing or read-only, as in most containers."
        )
    if Path("/run/systemd/system").is_dir():
        return (
            "this process is in no control group that is delegated to its user. "
            "Start it in one: systemd-run --user --scope -p Delegate=yes pytest"
        )
    return "no control group is delegated to this user, as systemd would do it. Root needs none delegated."


@cache
def _threads_of_user() -> int:
    """Return how many threads the user has now, which the kernel counts against a limit too."""
    user, count = os.getuid(), 0
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                count += len(os.listdir(f"/proc/{entry.name}/task")) if entry.stat().st_uid == user else 0  # noqa: PTH208
            except OSError:
                continue
    return count
