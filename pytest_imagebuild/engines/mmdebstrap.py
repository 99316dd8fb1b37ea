"""mmdebstrap: the system's, else a copy for this user alone, which apt fetches and verifies without being root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_imagebuild.errors import BaseImageError

__all__ = ["Mmdebstrap", "find_mmdebstrap"]

_NEEDED = ("apt-get", "dpkg-deb", "perl")
_SECONDS = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Mmdebstrap:
    """Where it is. Its package is unpacked below `root`."""

    root: Path = Path("/")

    @property
    def program(self) -> str:
        """What to execute."""
        return "mmdebstrap" if self.root == Path("/") else str(self.root / "usr/bin/mmdebstrap")

    @property
    def hooks(self) -> Path:
        """The folder of the hooks that come with it."""
        return self.root / "usr/share/mmdebstrap/hooks"

    def path(self, path: str) -> str:
        """Return a PATH that has the programs which it calls."""
        return path if self.root == Path("/") else f"{self.root / 'usr/bin'}:{path}"


def find_mmdebstrap(
    folder: Path, *, path: str, environment: Mapping[str, str], output: Callable[[str], None]
) -> Mmdebstrap:
    """Return mmdebstrap; where the system has none, it is fetched into `folder`, once.

    `path` is where programs are looked for. Raises BaseImageError in one sentence that says what helps.
    """
    if shutil.which("mmdebstrap", path=path) is not None:
        return Mmdebstrap()
    fetched = Mmdebstrap(root=folder.absolute())
    if not os.access(fetched.program, os.X_OK):
        helps = "Install it with: apt-get install mmdebstrap"
        if any(shutil.which(name, path=path) is None for name in _NEEDED):
            raise BaseImageError(f"this machine has no mmdebstrap. {helps}")
        output("mmdebstrap is fetched from the apt sources of this machine")
        try:
            _fetch(fetched.root, {**environment, "PATH": path})
        except (OSError, subprocess.SubprocessError) as error:
            said = " ".join(str(getattr(error, "stderr", None) or error).split())[-500:]
            raise BaseImageError(
                f"this machine has no mmdebstrap, and apt could not fetch it: {said}. {helps}"
            ) from error
    return fetched


def _fetch(root: Path, environment: Mapping[str, str]) -> None:
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}.") as name:
        folder = Path(name)
        lists, archives = folder / "state/lists", folder / "cache/archives"
        for each in (lists, archives):
            (each / "partial").mkdir(parents=True)
        # Lists and a cache of its own: those of the system are root's. apt.conf(5).
        settings = {
            "Dir::State": folder / "state",
            "Dir::State::Lists": lists,
            "Dir::State::status": "/var/lib/dpkg/status",
            "Dir::Cache": folder / "cache",
            "APT::Sandbox::User": "root",
        }
        options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
        for command in (
            ["apt-get", "-qq", *options, "update"],
            ["apt-get", "-qq", *options, "download", "mmdebstrap"],
        ):
            _run(command, folder, environment)
        package = next(folder.glob("mmdebstrap_*.deb"))
        unpacked = folder / "unpacked"
        _run(["dpkg-deb", "-x", str(package), str(unpacked)], folder, environment)
        shutil.rmtree(root, ignore_errors=True)
        unpacked.rename(root)


def _run(command: list[str], folder: Path, environment: Mapping[str, str]) -> None:
    subprocess.run(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_SECONDS,
        check=True,
    )
