"""Find the Docker API and turn its failures into our errors."""

from __future__ import annotations

import os
import platform
import shutil
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import docker
import docker.errors
import docker.utils
import requests
import urllib3
from docker.constants import DEFAULT_DOCKER_API_VERSION
from docker.context import ContextAPI

from pytest_imagebuild.errors import EngineError, EngineUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["HOST_NAME", "Connection", "connect", "engine_errors", "explain"]

HOST_NAME = "host.docker.internal"
"""What Docker Desktop calls the host, and Docker from 20.10 on if it is told to."""

_FULL = "no space left on device"
_MAKE_ROOM = "Free some: `imagebuild prune` removes what no image needs, `docker system prune` what Docker can spare."

_CONNECT_SECONDS = 4
_FIRST_ANSWER_SECONDS = 15
# The commit of a layer with a GPU stack takes minutes on a slow disk; a dead daemon closes the socket at once.
_CALL_SECONDS = 1800
_POOL_SIZE = 64

LOOK = "Look at `docker info`, then run again."
LOST = (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, ConnectionError, TimeoutError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection:
    """A client and the address that it talks to. `local` says that the address is a Unix socket."""

    client: docker.DockerClient
    address: str
    local: bool


def connect() -> Connection:
    """Connect to DOCKER_HOST, else the current Docker context, else the first of the usual sockets.

    Raises EngineUnavailableError in one line that names the command that helps.
    """
    settings = _settings()
    address = str(settings["base_url"])
    _knock(address)
    try:
        client = _client(settings)
    except (docker.errors.DockerException, *LOST) as error:
        message = f"Docker at {address} did not answer as Docker does: {explain(error)}. Look at `docker version`."
        raise EngineUnavailableError(message) from error
    client.api.timeout = _CALL_SECONDS
    return Connection(client=client, address=address, local=address.startswith("unix://"))


def _client(settings: Mapping[str, Any]) -> docker.DockerClient:
    more = {"timeout": _FIRST_ANSWER_SECONDS, "max_pool_size": _POOL_SIZE, **settings}
    if not settings.get("tls"):
        return docker.DockerClient(version="auto", **more)
    # requests prefers REQUESTS_CA_BUNDLE to the certificates that the connection is configured with, unless it trusts
    # no environment; docker-py asks for the version before it can be told so.
    asking = docker.DockerClient(version=DEFAULT_DOCKER_API_VERSION, **more)
    asking.api.trust_env = False
    version = asking.api.version(api_version=False)["ApiVersion"]
    asking.close()
    client = docker.DockerClient(version=version, **more)
    client.api.trust_env = False
    return client


def _settings() -> dict[str, Any]:
    from_environment = docker.utils.kwargs_from_env()
    if "base_url" in from_environment:
        return dict(from_environment)
    name = os.environ.get("DOCKER_CONTEXT") or None
    try:
        context = ContextAPI.get_context(name)
    except (docker.errors.DockerException, OSError, ValueError, KeyError) as error:
        message = f"the current Docker context cannot be read: {explain(error)}. Look at `docker context ls`."
        raise EngineUnavailableError(message) from error
    if context is None:
        message = f"there is no Docker context named {name or 'as the Docker config says'}; see `docker context ls`."
        raise EngineUnavailableError(message)
    if context.Name == "default" or not context.Host:
        return {"base_url": f"unix://{_usual_socket()}"}
    return {"base_url": context.Host, "tls": context.TLSConfig}


def _usual_socket() -> Path:
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


def _knock(address: str) -> None:
    """Open and close a connection, so that the usual failures get their own sentence, and soon."""
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


@contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    """Raise what docker-py and its transport raise as an EngineError that says what was being done."""
    try:
        yield
    except docker.errors.APIError as error:
        said = explain(error)
        helps = f". {_MAKE_ROOM}" if _FULL in said else ""
        raise EngineError(f"Docker refused to {doing}: {said}{helps}") from error
    except (docker.errors.DockerException, *LOST) as error:
        raise EngineError(f"Docker was lost while it should {doing}: {explain(error)}. {LOOK}") from error


def explain(error: BaseException) -> str:
    """Return one line of what the daemon, or the transport to it, said."""
    said = getattr(error, "explanation", None) or error
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    return " ".join(text.split())[:600]
