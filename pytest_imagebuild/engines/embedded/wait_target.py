"""A service container as the wait strategies of testcontainers take it (testcontainers, "WaitStrategyTarget")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pytest_imagebuild.engines.services import ExecResult

__all__ = ["Ran", "Target", "WaitTarget"]


class Target(Protocol):
    """What a `WaitTarget` asks of its service."""

    def port(self, container_port: int) -> tuple[str, int]:
        """Return the host and port on which a port of the container is reached."""

    def exec(self, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> ExecResult:
        """Run a command in the container."""

    def logs(self) -> str:
        """Return what the container printed so far."""

    def exit_code(self) -> int | None:
        """Return the exit code of the container; None while it runs."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command in the container gave, in the words of docker-py."""

    exit_code: int
    output: bytes


class WaitTarget:
    """Looks like a container of testcontainers, and like the docker-py object that such a container wraps."""

    def __init__(self, service: Target) -> None:
        self._service = service

    @property
    def status(self) -> str:
        """`running` or `exited`."""
        return "running" if self._service.exit_code() is None else "exited"

    @property
    def attrs(self) -> dict[str, Any]:
        """The state, as `docker inspect` words it."""
        code = self._service.exit_code()
        return {"State": {"Status": self.status, "Running": code is None, "ExitCode": code or 0, "Error": ""}}

    def get_container_host_ip(self) -> str:
        """Return the address at which ports of the container are reached."""
        return "127.0.0.1"

    def get_exposed_port(self, port: int) -> int:
        """Return the port of this machine that stands for a port of the container."""
        return self._service.port(port)[1]

    def get_wrapped_container(self) -> WaitTarget:
        """Return what is asked for the state: itself."""
        return self

    def get_logs(self) -> tuple[bytes, bytes]:
        """Return what the container printed, all of it as its output."""
        return self._service.logs().encode(), b""

    def exec(self, command: str | Sequence[str]) -> Ran:
        """Run a command in the container; a text is for the shell."""
        ran = self._service.exec(["/bin/sh", "-c", command] if isinstance(command, str) else command)
        return Ran(ran.exit_code, ran.stdout + ran.stderr)

    def reload(self) -> None:
        """Do nothing: the state is always that of now."""
