"""Which GPUs a Docker engine has, by what it says of itself, and how a container is given them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_imagebuild.engines.docker import gpus as docker_gpus
from pytest_imagebuild.engines.docker.gpus import Gpus
from pytest_imagebuild.engines.gpus.nvidia import DriverGpu, DriverGpus
from pytest_imagebuild.errors import EngineError

H100 = DriverGpu(product="NVIDIA H100 80GB HBM3", uuid="GPU-1", minor=0)
T4 = DriverGpu(product="Tesla T4", uuid="GPU-2", minor=1)


@pytest.fixture
def _driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_gpus, "driver_gpus", lambda: DriverGpus(gpus=(H100, T4), looked_at=("NVML",)))


@pytest.fixture
def _no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_gpus, "driver_gpus", lambda: DriverGpus(gpus=(), looked_at=("NVML",)))


def _gpus(*, local: bool = True, **info: Any) -> Gpus:
    return Gpus({"ServerVersion": "26.1", "ID": "daemon", **info}, address="unix:///docker.sock", local=local)


def _specify(folder: Path, *devices: Mapping[str, Any], kind: str = "acme.com/gpu") -> None:
    text = json.dumps({"cdiVersion": "0.6.0", "kind": kind, "devices": devices})
    (folder / "acme.json").write_text(text)


@pytest.mark.usefixtures("_no_driver")
def test_without_a_runtime_or_specifications_it_has_none_and_says_where_it_looked() -> None:
    inventory = _gpus(CDISpecDirs=[]).inventory()
    assert inventory.gpus == ()
    assert inventory.looked_at == ("NVML", "Docker 26.1 at unix:///docker.sock, whose CDI is off")


@pytest.mark.usefixtures("_driver")
def test_gpus_of_the_driver_are_asked_of_the_runtime_of_nvidia() -> None:
    gpus = _gpus(Runtimes={"runc": {}, "nvidia": {}})
    assert [(gpu.id, gpu.types) for gpu in gpus.inventory().gpus] == [
        ("GPU-1", ("H100-80GB", "H100")),
        ("GPU-2", ("T4",)),
    ]
    [request] = gpus.requests(["GPU-2", "GPU-1"])
    assert dict(request) == {
        "Driver": "nvidia",
        "Count": 0,
        "DeviceIDs": ["GPU-2", "GPU-1"],
        "Capabilities": [["gpu"]],
        "Options": {},
    }
    assert gpus.variables(["GPU-2", "GPU-1"])["CUDA_VISIBLE_DEVICES"] == "GPU-2,GPU-1"


@pytest.mark.usefixtures("_driver")
def test_gpus_of_the_driver_that_the_daemon_cannot_give_are_none() -> None:
    inventory = _gpus(Runtimes={"runc": {}}).inventory()
    assert inventory.gpus == ()
    assert inventory.looked_at == (
        "NVML",
        "the runtimes of Docker, of which none is `nvidia`",
        "Docker 26.1 at unix:///docker.sock, whose CDI is off",
    )


@pytest.mark.usefixtures("_no_driver")
def test_a_daemon_of_this_machine_that_lists_no_devices_has_those_of_its_folders(tmp_path: Path) -> None:
    _specify(tmp_path, {"name": "a", "annotations": {"imagebuild/gpu-type": "X1"}}, {"name": "b"})
    gpus = _gpus(CDISpecDirs=[str(tmp_path)])
    assert [(gpu.id, gpu.types) for gpu in gpus.inventory().gpus] == [
        ("acme.com/gpu=a", ("X1",)),
        ("acme.com/gpu=b", ()),
    ]
    assert gpus.inventory().looked_at == ("NVML", f"CDI specifications in {tmp_path}")
    [request] = gpus.requests(["acme.com/gpu=b"])
    assert (request.driver, request.device_ids, request.capabilities) == ("cdi", ["acme.com/gpu=b"], [])
    assert gpus.variables(["acme.com/gpu=b"]) == {}


@pytest.mark.usefixtures("_no_driver")
def test_a_daemon_that_lists_its_devices_has_those_and_no_others(tmp_path: Path) -> None:
    _specify(tmp_path, {"name": "a", "annotations": {"imagebuild/gpu-type": "X1"}}, {"name": "b"})
    listed = [{"Source": "cdi", "ID": "acme.com/gpu=a"}, {"Source": "cdi", "ID": "acme.com/net=0"}]
    gpus = _gpus(CDISpecDirs=[str(tmp_path)], DiscoveredDevices=listed)
    assert [(gpu.id, gpu.types) for gpu in gpus.inventory().gpus] == [("acme.com/gpu=a", ("X1",))]
    assert gpus.inventory().looked_at == ("NVML", f"the devices that Docker finds in {tmp_path}")


def test_of_a_daemon_elsewhere_only_the_names_are_known_and_one_gpu_counts_once() -> None:
    names = ("nvidia.com/gpu=0", "nvidia.com/gpu=GPU-9", "nvidia.com/gpu=all", "acme.com/gpu=0")
    gpus = _gpus(
        local=False, CDISpecDirs=["/etc/cdi"], DiscoveredDevices=[{"Source": "cdi", "ID": name} for name in names]
    )
    found = gpus.inventory()
    assert [gpu.id for gpu in found.gpus] == ["GPU-9", "daemon/acme.com/gpu=0"]
    assert all(gpu.is_a("ANY") and not gpu.types for gpu in found.gpus)
    [request] = gpus.requests([gpu.id for gpu in found.gpus])
    assert request.device_ids == ["nvidia.com/gpu=GPU-9", "acme.com/gpu=0"]


def test_a_daemon_elsewhere_that_lists_nothing_is_told_to_be_unknown() -> None:
    inventory = _gpus(local=False, CDISpecDirs=["/etc/cdi"], Runtimes={"nvidia": {}}).inventory()
    assert inventory.gpus == ()
    assert inventory.looked_at == (
        "the runtime `nvidia` of Docker at unix:///docker.sock, which is elsewhere and does not tell its GPUs",
        "Docker at unix:///docker.sock, which is elsewhere and older than 28.2, so it does not tell its devices",
    )


@pytest.mark.usefixtures("_no_driver")
def test_a_gpu_that_is_not_there_is_refused_with_what_is() -> None:
    with pytest.raises(EngineError, match="the Docker engine has no GPU 'GPU-7'; it has none"):
        _gpus().requests(["GPU-7"])


@pytest.mark.usefixtures("_no_driver")
def test_a_container_without_gpu_sees_none_although_the_runtime_of_nvidia_is_the_default() -> None:
    assert _gpus(DefaultRuntime="nvidia").variables([]) == {"NVIDIA_VISIBLE_DEVICES": "void"}
    assert _gpus(DefaultRuntime="runc").variables([]) == {}
