"""Containers of testcontainers that talk to the connection of this engine and pull nothing."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

from docker.errors import DockerException
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer, Reaper
from testcontainers.core.docker_client import get_docker_host
from testcontainers.core.exceptions import ContainerConnectException
from testcontainers.core.labels import create_labels

from pytest_imagebuild.engines.docker.connection import LOST
from pytest_imagebuild.engines.docker.removing import remove_container

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from docker import DockerClient
    from typing_extensions import Self

    from pytest_imagebuild.engines.docker.connection import Connection

__all__ = ["NativeContainer", "start_ryuk_if_present"]

_constructing = threading.Lock()
_reaping = threading.Lock()


class NativeContainer(DockerContainer):
    """A testcontainers container of a local image.

    `start` creates and starts it; the network is the caller's choice, the reaper is no part of it.
    """

    def __init__(
        self, client: DockerClient, image: str, environment: Mapping[str, str], ports: Sequence[int] = ()
    ) -> None:
        with _constructing, _environment_kept():
            # With a version it asks no daemon. It may resolve another one than this engine did, so it is replaced.
            super().__init__(image, docker_client_kw={"version": client.api.api_version})
        self.get_docker_client().client.close()
        self.get_docker_client().client = client
        # Without the prefix that testcontainers puts before the names of images on Docker Hub.
        self.image = image
        self.env.update(environment)
        self.with_exposed_ports(*ports)

    @property
    def name(self) -> str:
        """The id of the container."""
        return str(self.get_wrapped_container().id)

    def create(self) -> str:
        """Create the container and return its id."""
        self._configure()
        settings = {**self._kwargs, "labels": create_labels(self.image, self._kwargs.get("labels"))}
        self._container = self.get_docker_client().client.containers.create(
            self.image, command=self._command, environment=self.env, ports=self.ports, **settings
        )
        return self.name

    def start(self) -> Self:
        """Create the container, unless that is done, and start it."""
        if self._container is None:
            self.create()
        self.get_wrapped_container().start()
        return self

    def stop(self, force: bool = True, delete_volume: bool = True) -> None:  # noqa: ARG002
        """Kill and remove it. The client stays open: it belongs to the engine."""
        if self._container is not None:
            remove_container(self.get_docker_client().client.api, self.name)


def start_ryuk_if_present(connection: Connection) -> None:
    """Start testcontainers' reaper where its image is already there, as testcontainers itself would.

    It removes what carries the session's label after this process is dead. Without it our sweep does.
    """
    config = testcontainers_config
    if config.ryuk_disabled or get_docker_host() not in (None, connection.address):
        return
    with _reaping, contextlib.suppress(DockerException, ContainerConnectException, TimeoutError, *LOST):
        if connection.client.api.images(filters={"reference": config.ryuk_image}):
            Reaper.get_instance()


@contextlib.contextmanager
def _environment_kept() -> Iterator[None]:
    """Undo what testcontainers does to DOCKER_HOST."""
    before = os.environ.get("DOCKER_HOST")
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("DOCKER_HOST", None)
