"""Bound the number of processes in a container, without keeping the container waiting.

To move a process into a control group, the kernel waits until nothing forks (`cgroup_threadgroup_rwsem`): some 15 ms,
three times what a container takes to start. So one thread does it while the containers begin to work. A limit of memory
or processor time holds from the first instruction on, and is no matter of this module.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue

from pytest_imagebuild.engines.embedded.cgroups import Cgroup

__all__ = ["Bound", "Bounds"]

_ROUNDS = 20


class Bounds:
    """Does what has to do with control groups, in order, in a thread of its own."""

    def __init__(self) -> None:
        self._orders: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def of(self, name: str, pids: int) -> Bound:
        """Return the bound of a container; `name` is what a sweep tells the dead from the living by."""
        return Bound(self, name, pids)

    def later(self, order: Callable[[], None]) -> None:
        """Do something after all that was asked for before."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="imagebuild-bounds", daemon=True)
                self._thread.start()
        self._orders.put(order)

    def close(self) -> None:
        """Return once everything is done."""
        with self._starting:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._orders.put(None)
            thread.join()

    def _serve(self) -> None:
        while (order := self._orders.get()) is not None:
            # A bound that cannot be had is none.
            with contextlib.suppress(OSError):
                order()


class Bound:
    """The bound of one container, as a `Confinement` is."""

    def __init__(self, bounds: Bounds, name: str, pids: int) -> None:
        self._bounds = bounds
        self._name = name
        self._pids = pids
        self._cgroup: Cgroup | None = None
        self._ended = False

    def enter(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv`."""
        return list(argv)

    def settle(self, pid: int) -> None:
        """Bound the processes that began with `pid`."""
        self._bounds.later(lambda: self._take_in(pid))

    def out_of_memory(self) -> bool:
        """Say that memory is not limited."""
        return False

    def kill(self) -> None:
        """Do nothing: the processes of a container end with its first."""

    def remove(self) -> None:
        """Remove what was made, once the processes are gone."""
        self._ended = True
        self._bounds.later(self._remove)

    def _take_in(self, pid: int) -> None:
        cgroup = None if self._ended else Cgroup.create(self._name, pids=self._pids)
        if cgroup is None:
            return
        self._cgroup = cgroup
        seen: set[int] = set()
        for _ in range(_ROUNDS):
            new = [found for found in (pid, *_descendants(pid)) if found not in seen]
            for found in new:
                cgroup.add(found)
            if not new:
                return
            seen.update(new)

    def _remove(self) -> None:
        if self._cgroup is not None:
            self._cgroup.remove()


def _descendants(pid: int) -> Iterator[int]:
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, file.read_text(encoding="ascii").split()):
                yield child
                yield from _descendants(child)
