"""The lockfile on disk: read, changed under a lock, replaced atomically."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pytest_imagebuild.errors import LockfileError, disk_is_full
from pytest_imagebuild.lockfile import Lockfile, normal_name

__all__ = ["LockMode", "LockStore"]

NOTES = ".upgraded"
NOTES_KEPT_SECONDS = 24 * 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class LockMode:
    """What may be done to the lockfile.

    `locked`: nothing may be written. `upgrade`: resolve again; `names` limits that to packages or base references,
    empty means all.
    """

    locked: bool = False
    upgrade: bool = False
    names: frozenset[str] = field(default_factory=frozenset)

    def upgrades(self, *names: str) -> bool:
        """Tell whether any of `names` is to be resolved again."""
        return self.upgrade and (not self.names or self.unknown(names) != self.names)

    def unknown(self, pinned: Iterable[str]) -> frozenset[str]:
        """Return the names to upgrade that are not among `pinned`, however their author wrote them."""
        known = {normal_name(name) for name in pinned}
        return frozenset(name for name in self.names if normal_name(name) not in known)


class LockStore:
    """A lockfile at `path`. The lock that guards it lies in `cache_dir`, so nothing is left beside the user's file."""

    def __init__(self, path: Path, cache_dir: Path) -> None:
        self.path = path
        name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]
        self._guard = cache_dir / "locks" / f"lockfile-{name}.lock"

    def read(self) -> Lockfile:
        """Return what the file holds; an empty lockfile where there is none. Raises LockfileError."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return Lockfile()
        except (OSError, UnicodeDecodeError) as error:
            raise LockfileError(f"{self.path.name} cannot be read: {error}.") from error
        return Lockfile.loads(text, self.path.name)

    def change(self, update: Callable[[Lockfile], Lockfile]) -> Lockfile:
        """Apply `update` to what the file holds now, and write the result if it differs. Return the result."""
        with self._guarded():
            before = self.read()
            after = update(before)
            if after != before or not self.path.exists():
                self._replace(after.dumps())
            return after

    def noted(self, run: str) -> set[str]:
        """Return what processes of a run have noted."""
        try:
            return set(self._notes(run).read_text(encoding="utf-8").split())
        except FileNotFoundError:
            return set()

    def note(self, run: str, name: str) -> None:
        """Let the other processes of a run know that one of them resolved `name` again."""
        notes = self._notes(run)
        notes.parent.mkdir(parents=True, exist_ok=True)
        for old in notes.parent.glob(f"*{NOTES}"):
            with suppress(FileNotFoundError):
                if time.time() - old.stat().st_mtime > NOTES_KEPT_SECONDS:
                    old.unlink()
        with notes.open("a", encoding="utf-8") as stream:
            stream.write(f"{name}\n")

    def _notes(self, run: str) -> Path:
        return self._guard.with_name(f"{self._guard.stem}-{run}{NOTES}")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        from filelock import FileLock  # noqa: PLC0415 - most runs make no change

        self._guard.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._guard):
            yield

    def _replace(self, text: str) -> None:
        try:
            self._write(text)
        except OSError as error:
            advice = (
                "Make room there." if disk_is_full(error) else "Use --image-locked where the lockfile may not change."
            )
            raise LockfileError(f"{self.path} cannot be written: {error}. {advice}") from error

    def _write(self, text: str) -> None:
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
                stream.flush()
                # Else a machine that loses power may be left with an empty file of the new name.
                os.fsync(handle)
            temporary.chmod(self._mode())
            temporary.replace(self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _mode(self) -> int:
        return self.path.stat().st_mode & 0o777 if self.path.exists() else 0o644
