"""Where Docker listens, as far as that can be told without its library, which takes 0.15 s to load."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
from pathlib import Path
from urllib.parse import urlsplit

from pytest_imagebuild.errors import EngineUnavailableError

__all__ = ["knock", "look", "usual_socket"]

_CONNECT_SECONDS = 4


def look() -> None:
    """Raise EngineUnavailableError where it is sure already that no Docker answers."""
    address = os.environ.get("DOCKER_HOST") or ("" if _has_context() else f"unix://{usual_socket()}")
    if address:
        knock(address)


def usual_socket() -> Path:
    """Return the first of the usual sockets that is there, the most usual where none is."""
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent"))
    usual = Path("/var/run/docker.sock")
    others = (
        runtime / "docker.sock",
        Path.home() / ".docker" / "run" / "docker.sock",
        runtime / "podman" / "podman.sock",
        Path("/run/podman/podman.sock"),
    )
    return next((path for path in (usual, *others) if _exists(path)), usual)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def knock(address: str) -> None:
    """Open and close a connection, so that the usual failures get their own sentence, and soon.

    Raises EngineUnavailableError.
    """
    parts = urlsplit(address)
    try:
        if parts.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as knocking:
                knocking.settimeout(_CONNECT_SECONDS)
                knocking.connect(parts.netloc + parts.path)
        elif parts.scheme in ("tcp", "http", "https") and parts.hostname:
            socket.create_connection((parts.hostname, parts.port or 2375), _CONNECT_SECONDS).close()
    except FileNotFoundError as error:
        message = f"Docker does not answer at {address}: there is no such socket. {_how_to_start()}"
        raise EngineUnavailableError(message) from error
    except PermissionError as error:
        helps = 'To be let in: `sudo usermod -aG docker "$USER"`, then log in again.'
        raise EngineUnavailableError(f"Docker at {address} refuses this user: permission denied. {helps}") from error
    except ConnectionRefusedError as error:
        message = f"Docker does not answer at {address}: nothing listens there. {_how_to_start()}"
        raise EngineUnavailableError(message) from error
    except OSError as error:
        message = f"Docker does not answer at {address}: {error}. Check DOCKER_HOST and `docker context ls`."
        raise EngineUnavailableError(message) from error
    if parts.scheme == "ssh":
        forward = f"ssh -fNL /tmp/docker.sock:/var/run/docker.sock {parts.netloc}"
        message = f"{address} cannot carry a session; run `{forward}` and set DOCKER_HOST=unix:///tmp/docker.sock."
        raise EngineUnavailableError(message)


def _how_to_start() -> str:
    if platform.system() == "Darwin":
        return "Start it: `open -a Docker`."
    if shutil.which("dockerd"):
        return "Start it: `sudo systemctl start docker`."
    for tool, command in (("apt-get", "apt-get install docker.io"), ("dnf", "dnf install moby-engine")):
        if shutil.which(tool):
            return f"Install it: `sudo {command}`."
    return "Install it: https://docs.docker.com/engine/install/."


def _has_context() -> bool:
    """Say whether the user may have chosen a Docker context, which its library knows how to read."""
    if os.environ.get("DOCKER_CONTEXT"):
        return True
    folder = os.environ.get("DOCKER_CONFIG")
    file = (Path(folder) if folder else Path.home() / ".docker") / "config.json"
    try:
        return bool(json.loads(file.read_bytes()).get("currentContext"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, AttributeError):
        return True
