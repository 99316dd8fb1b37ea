"""Volumes are volumes of Docker.

A named one is called `imagebuild-volume-NAME`, and nobody owns it. An ephemeral one carries the labels of its owner, as
containers do, so that a sweep finds it when that is dead.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, NotFound
from docker.types import Mount

from pytest_imagebuild.engines.docker.connection import engine_errors
from pytest_imagebuild.engines.owner import LOCK, Owner
from pytest_imagebuild.engines.volumes import StoredVolume, VolumeMount, missing_volume

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["Volumes", "discard"]

_NAMED = "imagebuild-volume-"
_EPHEMERAL = "imagebuild-ephemeral-"
_NAME = "imagebuild.volume"
_BUSY = 409
# A container that has just ended may hold one a little longer.
_RELEASE_SECONDS = 5.0
# Docker before 23 refuses to measure for two who ask at once.
_MEASURE_SECONDS = 60.0
_PAUSE_SECONDS = 0.1


class Volumes:
    """The volumes of a daemon, as a process sees them."""

    def __init__(self, api: APIClient, owner: Owner) -> None:
        self._api = api
        self._labels = dict(owner.labels)
        self._prefix = f"{_EPHEMERAL}{Path(owner.labels[LOCK]).stem}-"
        self._ephemeral: set[str] = set()

    def stored(self) -> list[StoredVolume]:
        """Return the named volumes."""
        with engine_errors("measure its volumes"):
            found = self._measured()
        return sorted(
            (_stored(volume) for volume in found if volume["Name"].startswith(_NAMED)), key=lambda volume: volume.name
        )

    def has(self, name: str) -> bool:
        """Say whether there is a named volume of that name."""
        return self._exists(_NAMED + name)

    def make(self, name: str, *, ephemeral: bool) -> None:
        """Have a volume of that name; Docker leaves one that is there as it is."""
        label = {_NAME: "" if ephemeral else name}
        with engine_errors("make a volume"):
            if ephemeral:
                self._ephemeral.add(self._prefix + name)
                self._api.create_volume(self._prefix + name, labels={**self._labels, **label})
            else:
                self._api.create_volume(_NAMED + name, labels=label)

    def remove(self, name: str) -> int | None:
        """Remove a named volume; return the bytes freed, None where a container has it mounted."""
        size = next((volume.size for volume in self.stored() if volume.name == name), 0)
        return size if discard(self._api, _NAMED + name) else None

    def mounts(self, wanted: Sequence[VolumeMount]) -> list[Mount]:
        """Return what Docker is to mount. Raises EngineError for a volume that is not there: Docker would make it."""
        return [self._mount(mount) for mount in wanted]

    def close(self) -> None:
        """Remove the ephemeral volumes of this process. One that is not let go of is swept later."""
        until = time.monotonic() + _RELEASE_SECONDS
        for name in self._ephemeral:
            while not discard(self._api, name) and time.monotonic() < until:
                time.sleep(_PAUSE_SECONDS)
        self._ephemeral.clear()

    def _mount(self, mount: VolumeMount) -> Mount:
        name = (self._prefix if mount.ephemeral else _NAMED) + mount.name
        if not self._exists(name):
            raise missing_volume(mount)
        # Docker would copy what the image has at the path into an empty volume; then it mattered who comes first.
        return Mount(mount.path, name, type="volume", read_only=mount.read_only, no_copy=True)

    def _exists(self, name: str) -> bool:
        with engine_errors("look at a volume"):
            try:
                self._api.inspect_volume(name)
            except NotFound:
                return False
        return True

    def _measured(self) -> list[dict[str, Any]]:
        until = time.monotonic() + _MEASURE_SECONDS
        while True:
            try:
                return list(self._api.df().get("Volumes") or ())
            except APIError as error:
                if "already running" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(_PAUSE_SECONDS)


def discard(api: APIClient, name: str) -> bool:
    """Remove a volume by Docker's name of it; say whether it is gone. It stays where a container has it mounted."""
    with engine_errors("remove a volume"):
        try:
            api.remove_volume(name)
        except NotFound:
            return True
        except APIError as error:
            if error.status_code == _BUSY:
                return False
            raise
    return True


def _stored(volume: dict[str, Any]) -> StoredVolume:
    usage = volume.get("UsageData") or {}
    return StoredVolume(
        name=volume["Name"].removeprefix(_NAMED),
        size=max(0, int(usage.get("Size", 0))),
        created=_seconds(volume.get("CreatedAt") or ""),
        in_use=int(usage.get("RefCount", 0)) > 0,
    )


def _seconds(created: str) -> float:
    # RFC 3339 in the time zone of the daemon, of which `datetime` reads less before Python 3.11.
    text = re.sub(r"\.\d+", "", created).replace("Z", "+00:00")
    return datetime.fromisoformat(text).timestamp() if text else 0.0
