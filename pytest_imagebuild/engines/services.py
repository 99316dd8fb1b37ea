"""Containers that a test talks to, and what every engine says of one that cannot be reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pytest_imagebuild.errors import EngineError

__all__ = ["ExecResult", "ServiceSpec", "check_published", "ended_error"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceSpec:
    """A container for a host test to talk to. An empty `command` runs the image's own."""

    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecResult:
    """A command that ran in a container: exit code and both streams."""

    exit_code: int
    stdout: bytes
    stderr: bytes


def check_published(port: int, published: Sequence[int]) -> None:
    """Raise EngineError for a port of a container that was not asked for when it was started."""
    if port not in published:
        shown = ", ".join(map(str, published)) or "none"
        raise EngineError(f"port {port} of the container is not published, but {shown}: ask for it")


def ended_error(code: int, logs: str) -> EngineError:
    """Return the error of a container that runs no more."""
    return EngineError(f"the container has ended (exit code {code}): {logs[-2000:].strip()}")
