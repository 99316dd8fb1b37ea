"""Remember that containers start here, so that not every run has to try it first."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["Tried", "boot"]

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Tried:
    """A note in the store: this bubblewrap worked for this user, in these namespaces, since the machine was booted."""

    def __init__(self, folder: Path, bwrap: str) -> None:
        self._bwrap = bwrap
        self._path = folder / "tried"

    def works(self) -> bool:
        """Say whether it did."""
        try:
            return self._path.read_text(encoding="utf-8") == self._circumstances()
        except OSError:
            return False

    def note(self) -> None:
        """Note that it does."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.write_text(self._circumstances(), encoding="utf-8")

    def forget(self) -> None:
        """Take the note back: a container could not be started."""
        self._path.unlink(missing_ok=True)

    def _circumstances(self) -> str:
        spaces = [os.stat(f"/proc/self/ns/{kind}").st_ino for kind in ("user", "mnt")]  # noqa: PTH116
        changed = os.stat(self._bwrap).st_mtime_ns  # noqa: PTH116
        return f"{boot()} {os.geteuid()} {spaces} {self._bwrap} {changed}"


def boot() -> str:
    """Return what is another text after each boot of the machine."""
    return _BOOT.read_text(encoding="ascii").strip()
