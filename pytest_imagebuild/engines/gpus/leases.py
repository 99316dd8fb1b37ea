"""Who has which GPU: a lock file for each, held as long as a container uses it.

The kernel lets go of a lock when its process ends, however it ends. Whoever waits holds no GPU meanwhile, and only
one waits at a time for all others to queue behind, so nobody waits for somebody who waits: `docs/gpus.md`.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from pytest_imagebuild.engines.gpus.inventory import Gpu

__all__ = ["Lease", "Leases", "lock_folder"]

VARIABLE = "IMAGEBUILD_GPU_LOCKS"
_POLL_SECONDS = 0.05
_QUIET_SECONDS = 1.0
"""How long a wait is not worth a word."""


def lock_folder(cache_dir: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """Return where the locks of this machine's GPUs are: `IMAGEBUILD_GPU_LOCKS`, else in the cache folder."""
    named = environment.get(VARIABLE)
    # A home folder may be on a disk that machines share.
    return Path(named).expanduser().absolute() if named else cache_dir.absolute() / "gpus" / socket.gethostname()


class Lease:
    """GPUs that nobody else has until `release`."""

    def __init__(self, gpus: Sequence[Gpu], locks: Sequence[FileLock]) -> None:
        self.gpus = tuple(gpus)
        self._locks = locks

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the GPUs."""
        return tuple(gpu.id for gpu in self.gpus)

    def release(self) -> None:
        """Let others have them. Calling it again does nothing."""
        for lock in self._locks:
            lock.release()


class Leases:
    """The GPUs that this process leases. Thread-safe. Nothing is made before the first lease."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._give_up: Callable[[], None] = lambda: None
        self._giving = threading.Lock()

    def when_short(self, give_up: Callable[[], None]) -> None:
        """Have `give_up` called before this process waits: it begins to release every GPU that lies idle here."""
        self._give_up = give_up

    def take(self, gpus: Sequence[Gpu], count: int, waits: Callable[[], None]) -> Lease:
        """Lease `count` of `gpus`, all at once; wait until so many are free. `waits` is called when that takes long."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with suppress(Timeout), self._turn().acquire(timeout=0):
            lease = self._grab(gpus, count)
            if lease is not None:
                return lease
        with self._giving:
            self._give_up()
        patience = _Patience(waits)
        turn = self._turn()
        while not turn.is_locked:
            patience.look()
            with suppress(Timeout):
                turn.acquire(timeout=_POLL_SECONDS)
        try:
            while (lease := self._grab(gpus, count)) is None:
                patience.look()
                time.sleep(_POLL_SECONDS)
        finally:
            turn.release()
        return lease

    def wanted(self) -> bool:
        """Say whether somebody on this machine waits for a GPU."""
        if not self._folder.exists():
            return False
        with suppress(Timeout), self._turn().acquire(timeout=0):
            return False
        return True

    def _grab(self, gpus: Sequence[Gpu], count: int) -> Lease | None:
        """Lock `count` of them, or none."""
        chosen: list[tuple[Gpu, FileLock]] = []
        for gpu in gpus:
            if len(chosen) == count:
                break
            lock = FileLock(self._folder / f"{_file_name(gpu.id)}.lock", thread_local=False)
            with suppress(Timeout):
                lock.acquire(timeout=0)
                chosen.append((gpu, lock))
        lease = Lease([gpu for gpu, _ in chosen], [lock for _, lock in chosen])
        if len(chosen) == count:
            return lease
        lease.release()
        return None

    def _turn(self) -> FileLock:
        return FileLock(self._folder / "turn.lock", thread_local=False)


class _Patience:
    """Says once that a wait takes long."""

    def __init__(self, waits: Callable[[], None]) -> None:
        self._waits = waits
        self._until: float | None = time.monotonic() + _QUIET_SECONDS

    def look(self) -> None:
        if self._until is not None and time.monotonic() >= self._until:
            self._until = None
            self._waits()


def _file_name(identity: str) -> str:
    plain = "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in identity)
    return f"{plain[:60]}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
