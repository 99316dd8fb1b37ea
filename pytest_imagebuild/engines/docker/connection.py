"""Find the Docker API and turn its failures into our errors."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import docker
import docker.errors
import docker.utils
import requests
import urllib3
from docker.constants import DEFAULT_DOCKER_API_VERSION
from docker.context import ContextAPI

from pytest_imagebuild.engines.docker.address import knock, usual_socket
from pytest_imagebuild.errors import EngineError, EngineUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["HOST_NAME", "Connection", "connect", "engine_errors", "explain"]

HOST_NAME = "host.docker.internal"
"""What Docker Desktop calls the host, and Docker from 20.10 on if it is told to."""

_FULL = "no space left on device"
_MAKE_ROOM = "Free some: `imagebuild prune` removes what no image needs, `docker system prune` what Docker can spare."

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
    knock(address)
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
        return {"base_url": f"unix://{usual_socket()}"}
    return {"base_url": context.Host, "tls": context.TLSConfig}


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
