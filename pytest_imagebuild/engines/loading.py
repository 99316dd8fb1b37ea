"""What an adapter needs that is not installed, or does not load."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pytest_imagebuild.errors import EngineUnavailableError

__all__ = ["loading"]

_NEEDS = {"docker": "docker testcontainers", "embedded": "docker filelock requests"}


@contextmanager
def loading(engine: str) -> Iterator[None]:
    """Raise what keeps a module of an engine from being loaded as an EngineUnavailableError that says what to do."""
    try:
        yield
    except ImportError as error:
        missing = _NEEDS.get(engine, engine)
        message = f"the {engine} engine cannot be loaded: {error}. Install what it needs: `pip install {missing}`."
        raise EngineUnavailableError(message) from error
