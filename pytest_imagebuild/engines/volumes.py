"""Volumes of an engine, and what every engine says of them."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_imagebuild.errors import EngineError

__all__ = ["StoredVolume", "VolumeMount", "missing_volume"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredVolume:
    """A named volume. `size` is the bytes that it holds, `created` seconds since the epoch.

    `in_use` says that a container has it mounted now.
    """

    name: str
    size: int
    created: float
    in_use: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeMount:
    """A volume that a container sees at the absolute path `path`, over whatever its image has there.

    A layer that is made with it has an empty folder there if it had none before. An `ephemeral` one is known to the
    process that made it only, and goes with it.
    """

    name: str
    path: str
    read_only: bool = False
    ephemeral: bool = False


def missing_volume(mount: VolumeMount) -> EngineError:
    """Return the error for a mount of what is not there."""
    if mount.ephemeral:
        return EngineError(f"the ephemeral volume for {mount.path} was not made by this process, or is gone")
    return EngineError(
        f"the volume {mount.name!r} for {mount.path} is not there: something removed it. Make it again with "
        f"`imagebuild volume create {mount.name}`"
    )
