"""The GPUs that NVIDIA's driver knows: through its library NVML, else by what the kernel module shows in /proc."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["DriverGpu", "DriverGpus", "driver_gpus", "proc_gpus"]

PROC = Path("/proc/driver/nvidia/gpus")
_EXTRA = "`pip install 'pytest-imagebuild[gpu]'`"


@dataclass(frozen=True, kw_only=True, slots=True)
class DriverGpu:
    """A GPU as the driver has it. `minor` is the number of its device node, `/dev/nvidia<minor>`."""

    product: str
    uuid: str
    minor: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DriverGpus:
    """The GPUs of the driver, in its order, and where they were looked for."""

    gpus: tuple[DriverGpu, ...]
    looked_at: tuple[str, ...]


def driver_gpus(proc: Path = PROC) -> DriverGpus:
    """Ask NVML, else read /proc. A GPU that is split into MIG instances is left out: CDI describes those."""
    try:
        import pynvml  # noqa: PLC0415 - an extra, needed where there are GPUs
    except ImportError:
        return DriverGpus(gpus=proc_gpus(proc), looked_at=(f"{proc.parent} (for NVML: {_EXTRA})",))
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return DriverGpus(gpus=proc_gpus(proc), looked_at=(f"NVML ({error})", str(proc.parent)))
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        found = tuple(_of_handle(pynvml, handle) for handle in handles if not _is_split(pynvml, handle))
    except pynvml.NVMLError as error:
        return DriverGpus(gpus=proc_gpus(proc), looked_at=(f"NVML ({error})", str(proc.parent)))
    finally:
        pynvml.nvmlShutdown()
    return DriverGpus(gpus=found, looked_at=("NVML",))


def proc_gpus(proc: Path = PROC) -> tuple[DriverGpu, ...]:
    """Return the GPUs that the kernel module of the driver shows: a folder each, with a file of lines `Name: value`."""
    found = []
    for file in sorted(proc.glob("*/information")):
        try:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        values = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        minor = values.get("Device Minor", "")
        if minor.isdecimal():
            # An old driver hides the UUID from ordinary users.
            uuid = values.get("GPU UUID", "")
            found.append(DriverGpu(product=values.get("Model", ""), uuid="" if "?" in uuid else uuid, minor=int(minor)))
    return tuple(sorted(found, key=lambda gpu: gpu.minor))


def _is_split(pynvml: Any, handle: object) -> bool:
    try:
        return bool(pynvml.nvmlDeviceGetMigMode(handle)[0])
    except pynvml.NVMLError:
        return False  # it cannot be split


def _of_handle(pynvml: Any, handle: object) -> DriverGpu:
    return DriverGpu(
        product=_text(pynvml.nvmlDeviceGetName(handle)),
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        minor=int(pynvml.nvmlDeviceGetMinorNumber(handle)),
    )


def _text(value: str | bytes) -> str:
    """Return a text of NVML: bytes in older versions of its library."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
