"""The error that tells a registry that is silent from one that refuses."""

from __future__ import annotations

from pytest_imagebuild.errors import BaseImageError

__all__ = ["RegistryUnreachable"]


class RegistryUnreachable(BaseImageError):
    """The registry does not answer. `registry` is its name; `said` is what was met there, and at its mirrors before."""

    def __init__(self, message: str, *, registry: str, said: str) -> None:
        super().__init__(message)
        self.registry = registry
        self.said = said
