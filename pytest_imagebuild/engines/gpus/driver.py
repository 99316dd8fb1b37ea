"""What a container needs for GPUs of NVIDIA where no specification says it: nodes, and the libraries of the driver.

The libraries lie below /dev, in a file system that is the container's own: there, nothing of them can enter a layer.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from pytest_imagebuild.engines.gpus.cdi import CdiMount, DeviceNode
from pytest_imagebuild.engines.gpus.nvidia import DriverGpu
from pytest_imagebuild.engines.gpus.placement import Placement

__all__ = ["LIBRARIES", "driver_placement", "libraries_in"]

LIBRARIES = "/dev/imagebuild-gpu/lib"
"""Where a container finds the libraries of the driver."""

_SHARED_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset")
_PROGRAMS = ("nvidia-smi",)
_LIBRARY = re.compile(
    r"libcuda|libcudadebugger|libnvidia-(ml|cfg|ptxjitcompiler|nvvm|gpucomp|opencl|allocator|encode|opticalflow"
    r"|pkcs11|pkcs11-openssl3|sandboxutils|rtcore)|libnvcuvid|libnvoptix"
)
"""What computes; nothing that draws on a screen."""
_ENTRY = re.compile(r"\s*(?P<name>\S+)\.so(?P<version>\S*) \((?P<kind>[^)]*)\) => (?P<path>\S.*)")
_ARCHITECTURES = {"x86_64": "x86-64", "aarch64": "AArch64"}


def driver_placement(gpus: Iterable[DriverGpu]) -> Placement:
    """Return what a container needs for these GPUs of this machine."""
    nodes = (*(f"/dev/nvidia{gpu.minor}" for gpu in gpus), *filter(_exists, _SHARED_NODES))
    programs = [path for path in map(shutil.which, _PROGRAMS) if path is not None]
    return Placement(
        nodes=tuple(DeviceNode(path=node, source=node) for node in nodes),
        mounts=(
            *_libraries(),
            *(CdiMount(source=path, target=f"/usr/bin/{Path(path).name}", writable=False) for path in programs),
        ),
        library_folders=(LIBRARIES,),
        lost=() if _libraries() else ("the libraries of the driver, of which `ldconfig -p` knows none",),
    )


def libraries_in(listing: str, machine: str) -> Iterator[tuple[str, str]]:
    """Yield the names and paths of the driver's libraries in what `ldconfig -p` prints, for one kind of processor."""
    wanted = _ARCHITECTURES.get(machine, machine)
    for entry in map(_ENTRY.fullmatch, listing.splitlines()):
        if entry and _LIBRARY.fullmatch(entry["name"]) and wanted in entry["kind"].split(","):
            yield f"{entry['name']}.so{entry['version']}", entry["path"]


@cache
def _libraries() -> tuple[CdiMount, ...]:
    ldconfig = shutil.which("ldconfig") or "/sbin/ldconfig"
    try:
        done = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return ()
    found = dict(reversed(list(libraries_in(done.stdout, platform.machine()))))  # the first of a name is what is loaded
    return tuple(
        CdiMount(source=str(Path(path).resolve()), target=f"{LIBRARIES}/{name}", writable=False)
        for name, path in sorted(found.items())
    )


def _exists(path: str) -> bool:
    return Path(path).exists()
