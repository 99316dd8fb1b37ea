"""The error that tells a registry that is silent from one that refuses."""

from __future__ import annotations

from pytest_imagebuild.errors import BaseImageError

__all__ = ["RegistryUnreachable"]


class RegistryUnreachable(BaseImageError):
    """No registry answered. `registry` is the one that was asked last, `said` what was met instead of an answer."""

    def __init__(self, message: str, *, registry: str, said: str) -> None:
        super().__init__(message)
        self.registry = registry
        self.said = said
