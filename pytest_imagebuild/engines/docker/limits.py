"""What a container may use, in Docker's words, and whether it wanted more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docker.errors import DockerException

from pytest_imagebuild.engines.docker.connection import LOST
from pytest_imagebuild.engines.docker.marks import seconds

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["limits_of", "ran_out_of_memory"]

_CPU_PERIOD = 100_000
"""Microseconds, as the kernel has it by default."""


def limits_of(memory: int | None, cpu: float | None) -> dict[str, Any]:
    """Return the arguments of a HostConfig for bytes of memory, swap included, and for cores."""
    limits: dict[str, Any] = {}
    if memory is not None:
        limits.update(mem_limit=memory, memswap_limit=memory)
    if cpu is not None:
        # Not NanoCpus, of which Docker refuses more than the machine has.
        limits.update(cpu_period=_CPU_PERIOD, cpu_quota=round(cpu * _CPU_PERIOD))
    return limits


def ran_out_of_memory(api: APIClient, container: str) -> bool:
    """Ask the daemon's memory of past events: the container itself may be removed by now."""
    filters = {"container": container, "event": "oom"}
    try:
        # By the daemon's clock. It waits for an end in the future, and the event may come after the exit.
        until = int(seconds(api.info()["SystemTime"])) + 1
        return any(True for _ in api.events(since=1, until=until, filters=filters, decode=True))
    except (DockerException, KeyError, *LOST):
        return False
