"""Which layers runs of this machine use, and when each was used last: what an engine's store does not know itself.

All of it is files below `<cache folder>/uses/<store>/`. A run claims layers before it relies on them; housekeeping
removes none that a living process claimed, even where another has been put in its place since. The time of the file
`last/<key>` is the last use, its text says of what.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

__all__ = ["LastUse", "Uses", "folder_name"]

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")


class LastUse(NamedTuple):
    """When a layer was used last, in seconds since the epoch, and the image that it is the top of."""

    time: float
    image: str


class Uses:
    """The claims of this process on the layers of one store, and the last uses of all. Thread-safe.

    `identity` is `Capabilities.identity`. The kernel ends the claims of a process that dies.
    """

    def __init__(self, cache_dir: Path, identity: str) -> None:
        self._folder = cache_dir.absolute() / "uses" / folder_name(identity)
        self._removals = self._folder / "removals"
        self._claims = self._folder / "claims"
        self._last = self._folder / "last"
        self._mine = self._claims / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._alive: FileLock | None = None
        self._claimed: set[str] = set()
        self._touched: set[str] = set()
        self._guard = threading.Lock()

    def mark(self) -> int:
        """Return a mark to claim with what is looked up from now on."""
        try:
            return self._removals.stat().st_size
        except FileNotFoundError:
            return 0

    def claim(self, keys: Iterable[str], mark: int | None = None) -> bool:
        """Keep layers from being removed until `release`.

        With the mark from before they were looked up, nothing is claimed and False returned where anything was removed
        since: look again. Without one, look after the claim.
        """
        with self._guard:
            new = [key for key in dict.fromkeys(keys) if key not in self._claimed]
            if not new:
                return True
            with self._exclusive():
                if mark is not None and mark != self.mark():
                    return False
                if self._alive is None:
                    self._forget_dead()
                    self._alive = FileLock(f"{self._mine}.lock", thread_local=False)
                    self._alive.acquire()
                with self._mine.open("a", encoding="utf-8") as file:
                    file.writelines(f"{key} {time.time()}\n" for key in new)
            self._claimed.update(new)
            return True

    def touch(self, key: str, image: str) -> None:
        """Note that the layer of a key is used now, as the top of an image, which `image` describes."""
        path = self._last / key
        with self._guard:
            self._touched.add(key)
            if _read(path) == image:
                os.utime(path)
            else:
                self._last.mkdir(parents=True, exist_ok=True)
                path.write_text(image, encoding="utf-8")

    def release(self) -> None:
        """Let go of every claim; what was used was used until now. Calling it again does nothing."""
        with self._guard:
            for key in self._touched:
                with suppress(FileNotFoundError):
                    os.utime(self._last / key)
            self._touched.clear()
            self._claimed.clear()
            if self._alive is not None:
                self._mine.unlink(missing_ok=True)
                self._alive.release()
                Path(self._alive.lock_file).unlink(missing_ok=True)
                self._alive = None

    def last_uses(self) -> dict[str, LastUse]:
        """Return the last use of every key that was the top of an image."""
        found = {}
        for path in self._last.iterdir() if self._last.is_dir() else ():
            with suppress(FileNotFoundError):
                found[path.name] = LastUse(time=path.stat().st_mtime, image=path.read_text(encoding="utf-8"))
        return found

    @contextmanager
    def removing(self, key: str) -> Iterator[bool]:
        """Keep every run of this machine from claiming layers meanwhile; yield whether none has claimed this one.

        Meant for the removal of one layer: runs wait.
        """
        with self._exclusive():
            free = not any(key in keys for keys in self._living_claims())
            if not free:
                yield False
                return
            # Noted twice: who looks while it goes may still find it, and may not claim it afterwards either.
            self._note_removal()
            try:
                yield True
            finally:
                self._note_removal()

    def claimed(self) -> dict[str, float]:
        """Return since when living processes have claimed layers, by their keys, in seconds since the epoch."""
        since: dict[str, float] = {}
        with self._exclusive():
            for claims in self._living_claims():
                for key, begun in claims.items():
                    since[key] = min(begun, since.get(key, begun))
        return since

    def forget(self, key: str, parent: str) -> None:
        """Drop the record of a removed layer: its last use becomes that of its parent, unless that has a later one."""
        path, below = self._last / key, self._last / parent
        try:
            used = path.stat().st_mtime
        except FileNotFoundError:
            return
        path.unlink(missing_ok=True)
        if not parent:
            return
        if not below.exists():
            below.touch()
            os.utime(below, (used, used))
        elif below.stat().st_mtime < used:
            os.utime(below, (used, used))

    def _note_removal(self) -> None:
        with self._removals.open("ab") as file:
            file.write(b".")

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        self._claims.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / "lock"):
            yield

    def _forget_dead(self) -> None:
        for _ in self._living_claims():
            pass

    def _living_claims(self) -> Iterator[dict[str, float]]:
        for path in self._claims.glob("*.lock"):
            claims = path.with_suffix("")
            try:
                with FileLock(path).acquire(timeout=0):
                    claims.unlink(missing_ok=True)
                    path.unlink(missing_ok=True)
            except Timeout:
                yield dict(map(_claim, (_read(claims) or "").splitlines()))


def folder_name(identity: str) -> str:
    """Return the name of a folder for what belongs to the store of an engine."""
    name = identity.replace(":", "-")[:32] if ":" in identity else identity
    return name if _NAME.fullmatch(name) else hashlib.sha256(identity.encode()).hexdigest()[:32]


def _claim(line: str) -> tuple[str, float]:
    """Read a claim. One without a time, of an older version or cut short by a full disk, is older than all."""
    key, _, begun = line.partition(" ")
    try:
        return key, float(begun)
    except ValueError:
        return key, 0


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
