"""What every engine says of a service that cannot be reached."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_imagebuild.errors import EngineError

__all__ = ["check_published", "ended_error"]


def check_published(port: int, published: Sequence[int]) -> None:
    """Raise EngineError for a port of a container that was not asked for when it was started."""
    if port not in published:
        shown = ", ".join(map(str, published)) or "none"
        raise EngineError(f"port {port} of the container is not published, but {shown}: ask for it")


def ended_error(code: int, logs: str) -> EngineError:
    """Return the error of a container that runs no more."""
    return EngineError(f"the container has ended (exit code {code}): {logs[-2000:].strip()}")
