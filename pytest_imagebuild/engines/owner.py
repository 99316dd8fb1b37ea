"""Who started a container: a lock file that is held while the process lives tells the dead from the living."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HOST", "LOCK", "RUN", "Owner"]

RUN = "imagebuild.run"
HOST = "imagebuild.host"
LOCK = "imagebuild.lock"
"""The labels that name who owns something."""

# Between the making of a lock file and the taking of its lock.
_SETTLED_SECONDS = 60


class Owner:
    """This process, as the labels of what it starts name it.

    Workers of xdist share a run but are processes of their own, so each holds a lock file of its own. The kernel lets
    go of the lock when the process ends, however it ends.
    """

    def __init__(self, *, run: str, cache_dir: Path) -> None:
        folder = cache_dir.absolute() / "runs"
        folder.mkdir(parents=True, exist_ok=True)
        self.host = _host()
        # Machines that share the folder need not see each other's locks.
        self._here = hashlib.sha256(self.host.encode()).hexdigest()[:6]
        self._path = folder / f"{run}-{os.getpid()}-{self._here}{uuid.uuid4().hex[:6]}.lock"
        self._lock = FileLock(self._path, thread_local=False)
        self._lock.acquire()
        self.labels: Mapping[str, str] = {RUN: run, HOST: self.host, LOCK: str(self._path)}

    def is_dead(self, labels: Mapping[str, str]) -> bool:
        """Say whether what carries `labels` was started by a process of this machine that is gone."""
        path = Path(labels.get(LOCK, ""))
        if labels.get(HOST) != self.host or not path.is_absolute() or path == self._path:
            return False
        try:
            if not path.exists():
                return True
            lock = FileLock(path)
            with lock.acquire(timeout=0):
                path.unlink(missing_ok=True)
        except (Timeout, OSError):
            return False
        return True

    def folder(self, parent: Path) -> Path:
        """Return where in `parent` this process may put what nobody needs after it."""
        return parent / self._path.stem

    def remove_folders_of_dead(self, parent: Path) -> int:
        """Remove what dead processes left in such folders; return how many there were."""
        dead = [
            folder
            for folder in (parent.iterdir() if parent.is_dir() else ())
            if self.is_dead({HOST: self.host, LOCK: str(self._path.with_name(f"{folder.name}.lock"))})
        ]
        for folder in dead:
            shutil.rmtree(folder, ignore_errors=True)
        return len(dead)

    def remove_locks_of_dead(self) -> None:
        """Remove the lock files of dead processes, of which nothing else may be left by now."""
        old = time.time() - _SETTLED_SECONDS
        for path in self._path.parent.glob(f"*-{self._here}??????.lock"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < old:
                    self.is_dead({HOST: self.host, LOCK: str(path)})

    def release(self) -> None:
        """Say that nothing of this process is left. Calling it again does nothing."""
        self._lock.release()
        self._path.unlink(missing_ok=True)


def _host() -> str:
    # Containers of one image share a machine id, machines of one template a host name: both together differ.
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        machine = f"{uuid.getnode():x}"
    return f"{socket.gethostname()}/{machine[:32]}"
