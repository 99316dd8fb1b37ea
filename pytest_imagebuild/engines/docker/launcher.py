"""Starts session and service containers, and stops them all at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pytest_imagebuild.engines.docker.natives import start_ryuk_if_present
from pytest_imagebuild.engines.docker.service import ServiceContainer, start_service
from pytest_imagebuild.engines.docker.session import SessionContainer, start_session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from docker import DockerClient

    from pytest_imagebuild.engines.docker.connection import Connection
    from pytest_imagebuild.engines.docker.gpus import Gpus
    from pytest_imagebuild.engines.docker.volumes import Volumes
    from pytest_imagebuild.engines.docker.work import Host
    from pytest_imagebuild.engines.layers import BuiltLayer
    from pytest_imagebuild.engines.protocol import SessionSpec
    from pytest_imagebuild.engines.services import ServiceSpec

__all__ = ["Launcher"]


class _Stoppable(Protocol):
    def stop(self) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Launcher:
    """What it takes to start a container.

    `labels` name the owner, `config` gives the configuration of an image, `running` is what there is to stop.
    """

    connection: Connection
    host: Host
    gpus: Gpus
    labels: Mapping[str, str]
    config: Callable[[str], Mapping[str, Any]]
    volumes: Volumes
    running: set[_Stoppable] = field(default_factory=set)

    @property
    def client(self) -> DockerClient:
        """The client of the engine, which containers share."""
        return self.connection.client

    def start(self, layer: BuiltLayer, spec: SessionSpec) -> SessionContainer:
        """Start a session container. It needs no reaper: its input closes when this process dies."""
        return start_session(self, layer, spec)

    def serve(self, layer: BuiltLayer, spec: ServiceSpec) -> ServiceContainer:
        """Start a service container."""
        start_ryuk_if_present(self.connection)
        return start_service(self, layer, spec)

    def stop_all(self) -> None:
        """Stop whatever runs."""
        for container in tuple(self.running):
            container.stop()
