"""The volumes that a chain call or a marker names, had from the engine when they are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_imagebuild.errors import DefinitionError, SourceLocation

if TYPE_CHECKING:
    from pytest_imagebuild.engines.protocol import Engine
    from pytest_imagebuild.engines.volumes import VolumeMount
    from pytest_imagebuild.image.volume import Mounted, Volume

__all__ = ["provide"]


def provide(engine: Engine, volumes: Mounted, where: SourceLocation | None = None) -> tuple[VolumeMount, ...]:
    """Return the mounts of `volumes`, each of which the engine has then.

    Raises DefinitionError for a missing one that may not be made, at `where`, else where it is named.
    """
    return tuple(_provided(engine, path, volume, where or volume.where) for path, volume in volumes)


def _provided(engine: Engine, path: str, volume: Volume, where: SourceLocation | None) -> VolumeMount:
    from pytest_imagebuild.engines.volumes import VolumeMount  # noqa: PLC0415 - few runs have any

    name = volume.name or str(volume.number)
    if volume.is_ephemeral or volume.create_if_missing:
        engine.make_volume(name, ephemeral=volume.is_ephemeral)
    elif not engine.has_volume(name):
        raise DefinitionError(
            f"the volume {name!r} for {path} does not exist on the {engine.name} engine. Make it with "
            f"`imagebuild volume create {name}`, or write Volume.from_name({name!r}, create_if_missing=True).",
            where=where,
        )
    return VolumeMount(name=name, path=path, read_only=volume.is_read_only, ephemeral=volume.is_ephemeral)
