"""The GPUs of this machine: what its NVIDIA driver and its CDI specifications say, each GPU once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_imagebuild.engines.gpus import cdi
from pytest_imagebuild.engines.gpus.cdi import CdiDevice
from pytest_imagebuild.engines.gpus.inventory import Gpu
from pytest_imagebuild.engines.gpus.nvidia import DriverGpu, DriverGpus, driver_gpus
from pytest_imagebuild.engines.gpus.products import types_of

__all__ = ["TYPE", "HostGpu", "HostGpus", "host_gpus", "joined"]

TYPE = "imagebuild/gpu-type"
"""The annotation of a CDI device, or of its specification, that names its type; several are parted by commas."""

_NODE = re.compile(r"/dev/nvidia(\d+)")
_GPU_CLASS = "gpu"


@dataclass(frozen=True, kw_only=True, slots=True)
class HostGpu:
    """A GPU, as its vendor's specification describes it, as the driver knows it, or both."""

    gpu: Gpu
    cdi: CdiDevice | None = None
    driver: DriverGpu | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class HostGpus:
    """The GPUs of this machine, and where they were looked for."""

    gpus: tuple[HostGpu, ...]
    looked_at: tuple[str, ...]


def host_gpus(folders: Sequence[Path] | None = None, environment: Mapping[str, str] = os.environ) -> HostGpus:
    """Look for GPUs. `folders` are those of CDI specifications."""
    folders = cdi.cdi_folders(environment) if folders is None else folders
    found = cdi.read(folders)
    places = f"CDI specifications in {', '.join(map(str, folders))}"
    driver = driver_gpus()
    return HostGpus(gpus=tuple(joined(found.devices, driver)), looked_at=(*driver.looked_at, places, *found.problems))


def joined(devices: Iterable[CdiDevice], driver: DriverGpus) -> Iterator[HostGpu]:
    """Yield each GPU once: those of the driver first, with their description, then what the driver does not know."""
    described = list(_gpus_among(devices))
    for known in driver.gpus:
        device = next((each for each in described if _is(each, known)), None)
        described = [each for each in described if each is not device]
        gpu = Gpu(
            id=known.uuid or f"nvidia{known.minor}",
            types=_annotated(device) or types_of(known.product),
            name=known.product,
            uuid=known.uuid,
        )
        yield HostGpu(gpu=gpu, cdi=device, driver=known)
    for device in described:
        types = _annotated(device)
        named = f"{types[0]} ({device.qualified})" if types else device.qualified
        uuid = device.name if device.name.startswith(("GPU-", "MIG-")) else ""
        yield HostGpu(gpu=Gpu(id=uuid or device.qualified, types=types, name=named, uuid=uuid), cdi=device)


def _gpus_among(devices: Iterable[CdiDevice]) -> Iterator[CdiDevice]:
    """Yield what is a GPU: of the class `gpu`, or annotated with a type. A device of several names comes once."""
    gpus = [each for each in devices if each.kind.endswith(f"/{_GPU_CLASS}") or TYPE in each.annotations]
    nodes = [frozenset(node.path for node in each.edits.nodes) for each in gpus]
    for number, device in enumerate(gpus):
        own = nodes[number]
        # "all" has the nodes of every one. A UUID says more than a number.
        others = [(each, nodes[at]) for at, each in enumerate(gpus) if each.kind == device.kind and each.name != "all"]
        if device.name == "all" or any(own > of_other for _, of_other in others if of_other):
            continue
        same = [each for each, of_other in others if own and of_other == own]
        if device is (_best_name(same) if same else device):
            yield device


def _best_name(same: list[CdiDevice]) -> CdiDevice:
    return next((each for each in same if each.name.startswith(("GPU-", "MIG-"))), same[0])


def _is(device: CdiDevice, known: DriverGpu) -> bool:
    if device.name == known.uuid:
        return True
    if ":" in device.name:
        return False  # a MIG instance, which has the node of the whole GPU
    minors = [match[1] for node in device.edits.nodes if (match := _NODE.fullmatch(node.source))]
    return minors == [str(known.minor)]


def _annotated(device: CdiDevice | None) -> tuple[str, ...]:
    text = device.annotations.get(TYPE, "") if device is not None else ""
    return tuple("-".join(part.upper().split()) for part in str(text).split(",") if part.strip())
