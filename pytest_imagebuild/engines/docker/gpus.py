"""GPUs of a daemon: which it has, as far as it or this machine can tell, and how a container is given them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from docker.types import DeviceRequest

from pytest_imagebuild.engines.gpus import cdi
from pytest_imagebuild.engines.gpus.cdi import CdiDevice, Edits
from pytest_imagebuild.engines.gpus.host import HostGpu, joined
from pytest_imagebuild.engines.gpus.inventory import Gpu, GpuInventory, visible
from pytest_imagebuild.engines.gpus.nvidia import DriverGpus, driver_gpus
from pytest_imagebuild.errors import EngineError

__all__ = ["Gpus"]

_NVIDIA = "nvidia"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Given:
    """A GPU, and the driver of the daemon that gives it under a name."""

    gpu: Gpu
    driver: str
    name: str


class Gpus:
    """The GPUs of a daemon that says `info` of itself, looked for when they are first asked for.

    With `local`, the daemon runs on this machine, so its devices are those that this machine has.
    """

    def __init__(self, info: Mapping[str, Any], *, address: str, local: bool) -> None:
        self._info = info
        self._address = address
        self._local = local

    def inventory(self) -> GpuInventory:
        """Return what containers can have."""
        return GpuInventory(gpus=tuple(given.gpu for given in self._given), looked_at=tuple(self._looked_at()))

    def requests(self, ids: Sequence[str]) -> list[DeviceRequest]:
        """Return how a container is given the GPUs of these ids. Raises EngineError for one that is not there."""
        chosen = [self._find(each) for each in ids]
        wanted: dict[str, list[str]] = {}
        for given in chosen:
            wanted.setdefault(given.driver, []).append(given.name)
        return [
            DeviceRequest(driver=driver, device_ids=names, capabilities=[["gpu"]] if driver == _NVIDIA else [])
            for driver, names in wanted.items()
        ]

    def variables(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the variables of a container that has the GPUs of these ids, and no others."""
        if ids:
            return visible(self._find(each).gpu for each in ids)
        # The runtime of NVIDIA, where it runs every container, gives all GPUs to an image that asks for them.
        return {"NVIDIA_VISIBLE_DEVICES": "void"} if self._info.get("DefaultRuntime") == _NVIDIA else {}

    def _find(self, identity: str) -> _Given:
        for given in self._given:
            if given.gpu.id == identity:
                return given
        names = ", ".join(given.gpu.id for given in self._given)
        raise EngineError(f"the Docker engine has no GPU {identity!r}; it has {names or 'none'}.")

    @cached_property
    def _given(self) -> tuple[_Given, ...]:
        found = tuple(filter(None, (self._give(gpu) for gpu in joined(self._described, self._driver))))
        if self._local:
            return found
        # A name that a specification gives may be on other machines as well.
        prefix = str(self._info.get("ID") or self._address)
        return tuple(replace(given, gpu=_elsewhere(given.gpu, prefix)) for given in found)

    def _give(self, found: HostGpu) -> _Given | None:
        if found.cdi is not None:
            return _Given(gpu=found.gpu, driver="cdi", name=found.cdi.qualified)
        if found.driver is not None and self._has_runtime:
            return _Given(gpu=found.gpu, driver=_NVIDIA, name=found.driver.uuid or str(found.driver.minor))
        return None

    @cached_property
    def _driver(self) -> DriverGpus:
        """What the driver of the daemon's machine has: known of this machine only."""
        return driver_gpus() if self._local else DriverGpus(gpus=(), looked_at=())

    @property
    def _has_runtime(self) -> bool:
        return _NVIDIA in (self._info.get("Runtimes") or {})

    @cached_property
    def _specifications(self) -> cdi.Specifications:
        return cdi.read(self._folders) if self._local else cdi.Specifications()

    @property
    def _folders(self) -> tuple[Path, ...]:
        return tuple(map(Path, self._info.get("CDISpecDirs") or ()))

    @cached_property
    def _described(self) -> tuple[CdiDevice, ...]:
        """What the daemon finds in specifications. Docker 28.2 and newer list the names themselves."""
        listed = self._info.get("DiscoveredDevices")
        if listed is None:
            return self._specifications.devices
        known = {device.qualified: device for device in self._specifications.devices}
        found = [_split(str(device["ID"])) for device in listed if device.get("Source") == "cdi"]
        # NVIDIA's toolkit names a GPU by its UUID and by its number, and only its specification tells that it is one.
        by_uuid = {kind for kind, name in found if name.startswith("GPU-")}
        kept = [(kind, name) for kind, name in found if kind not in by_uuid or not name.isdecimal()]
        return tuple(known.get(f"{kind}={name}") or _named(kind, name) for kind, name in kept)

    def _looked_at(self) -> Iterator[str]:
        yield from self._driver.looked_at
        if self._driver.gpus and not self._has_runtime:
            yield "the runtimes of Docker, of which none is `nvidia`"
        if self._has_runtime and not self._local:
            yield f"the runtime `nvidia` of Docker at {self._address}, which is elsewhere and does not tell its GPUs"
        folders = ", ".join(map(str, self._folders))
        if not folders:
            yield f"Docker {self._info.get('ServerVersion', '')} at {self._address}, whose CDI is off"
        elif self._info.get("DiscoveredDevices") is not None:
            yield f"the devices that Docker finds in {folders}"
        elif self._local:
            yield f"CDI specifications in {folders}"
        else:
            yield f"Docker at {self._address}, which is elsewhere and older than 28.2, so it does not tell its devices"
        yield from self._specifications.problems


def _split(name: str) -> tuple[str, str]:
    kind, _, device = name.partition("=")
    return kind, device


def _named(kind: str, name: str) -> CdiDevice:
    return CdiDevice(kind=kind, name=name, edits=Edits())


def _elsewhere(gpu: Gpu, prefix: str) -> Gpu:
    return gpu if gpu.uuid else replace(gpu, id=f"{prefix}/{gpu.id}")
