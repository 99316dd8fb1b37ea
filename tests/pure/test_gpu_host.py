"""Which GPUs a machine has, by its driver and by specifications of devices, and what they are called."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_imagebuild.engines.gpus import cdi
from pytest_imagebuild.engines.gpus.host import host_gpus, joined
from pytest_imagebuild.engines.gpus.inventory import Gpu, GpuInventory, visible
from pytest_imagebuild.engines.gpus.nvidia import DriverGpu, DriverGpus, driver_gpus, proc_gpus
from pytest_imagebuild.engines.gpus.products import types_of
from pytest_imagebuild.image.gpu import read_gpus

H100 = DriverGpu(product="NVIDIA H100 80GB HBM3", uuid="GPU-1", minor=0)
A10G = DriverGpu(product="NVIDIA A10G", uuid="GPU-2", minor=1)


# products -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("product", "types"),
    [
        ("NVIDIA H100 80GB HBM3", ("H100-80GB", "H100")),
        ("NVIDIA H100 PCIe", ("H100",)),
        ("NVIDIA H100 NVL", ("H100",)),
        ("NVIDIA H200", ("H200",)),
        ("NVIDIA B200", ("B200",)),
        ("NVIDIA GH200 480GB", ("GH200-480GB", "GH200")),
        ("NVIDIA A100-SXM4-40GB", ("A100-40GB", "A100")),
        ("NVIDIA A100-SXM4-80GB", ("A100-80GB", "A100")),
        ("NVIDIA A100 80GB PCIe", ("A100-80GB", "A100")),
        ("NVIDIA A10G", ("A10G", "A10")),
        ("NVIDIA A10", ("A10",)),
        ("NVIDIA L4", ("L4",)),
        ("NVIDIA L40S", ("L40S",)),
        ("Tesla T4", ("T4",)),
        ("Tesla V100-SXM2-16GB", ("V100-16GB", "V100")),
        ("NVIDIA GeForce RTX 4090", ("RTX-4090",)),
        ("NVIDIA RTX A6000", ("RTX-A6000",)),
        ("NVIDIA RTX 6000 Ada Generation", ("RTX-6000-ADA",)),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", ("RTX-PRO-6000",)),
        ("NVIDIA Graphics Device", ()),
    ],
)
def test_a_product_has_the_types_that_people_write(product: str, types: tuple[str, ...]) -> None:
    assert types_of(product) == types


@pytest.mark.parametrize(
    ("asked", "product", "fits"),
    [
        ("H100", "NVIDIA H100 80GB HBM3", True),
        ("h100!", "NVIDIA H100 80GB HBM3", True),
        ("H100", "NVIDIA H200", False),
        ("A100-80GB", "NVIDIA A100-SXM4-40GB", False),
        ("A100-40gb", "NVIDIA A100-SXM4-40GB", True),
        ("A10", "NVIDIA A10G", True),
        ("A10G", "NVIDIA A10", False),
        ("L4", "NVIDIA L40S", False),
        ("RTX PRO 6000", "NVIDIA RTX PRO 6000 Blackwell Server Edition", True),
        ("B200+", "NVIDIA B300", True),
        ("B200+", "NVIDIA H200", False),
        ("any", "NVIDIA Graphics Device", True),
    ],
)
def test_a_gpu_is_what_is_asked_for_if_one_of_its_types_is(asked: str, product: str, fits: bool) -> None:
    [wish] = read_gpus(asked, fallbacks=False)
    assert Gpu(id="x", types=types_of(product)).is_a(wish.type) is fits


# choosing -----------------------------------------------------------------------------------------------------------


def _gpus(*types: str) -> tuple[Gpu, ...]:
    return tuple(Gpu(id=f"{kind}-{number}", types=(kind,), name=kind) for number, kind in enumerate(types))


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ("T4", "T4"),
        ("H100", "H100"),
        ("H100:2", "H100:2"),
        ("H100:3", None),
        ("any:3", "any:3"),
        ("any:4", None),
        (["B200", "H100:3", "T4", "H100"], "T4"),
        (["B200", "L4"], None),
    ],
)
def test_the_first_of_which_the_machine_has_enough_is_chosen(asked: object, chosen: str | None) -> None:
    found = GpuInventory(gpus=_gpus("H100", "T4", "H100")).fitting(read_gpus(asked, fallbacks=True))
    assert (str(found[0]) if found else None) == chosen


def test_what_is_lacking_is_told_with_what_was_found_and_where_it_was_looked_for() -> None:
    places = ("NVML", "CDI specifications in /etc/cdi, /var/run/cdi")
    assert GpuInventory(looked_at=places).lacking("H100") == (
        "asked for H100, found no GPU (looked at NVML, CDI specifications in /etc/cdi, /var/run/cdi)"
    )
    found = GpuInventory(gpus=_gpus("T4", "L4", "T4"), looked_at=places)
    assert found.lacking("H100:2 or A100") == (
        "asked for H100:2 or A100, found 2 T4, L4 (looked at NVML, CDI specifications in /etc/cdi, /var/run/cdi)"
    )


def test_cuda_is_told_the_uuids_in_order_and_nothing_where_there_are_none() -> None:
    both = {"CUDA_VISIBLE_DEVICES": "GPU-2,GPU-1", "NVIDIA_VISIBLE_DEVICES": "GPU-2,GPU-1"}
    assert visible([Gpu(id="b", uuid="GPU-2"), Gpu(id="c"), Gpu(id="a", uuid="GPU-1")]) == both
    assert visible([Gpu(id="c")]) == {}


# the driver ---------------------------------------------------------------------------------------------------------


def test_the_kernel_module_tells_product_uuid_and_minor_number(tmp_path: Path) -> None:
    for bus, model, uuid, minor in (
        ("0000:65:00.0", "NVIDIA H100 80GB HBM3", "GPU-1", 1),
        ("0000:18:00.0", "Tesla T4", "GPU-????????-????-????-????-????????????", 0),
    ):
        (tmp_path / bus).mkdir()
        text = f"Model: \t\t {model}\nIRQ:   \t\t 17\nGPU UUID: \t {uuid}\nDevice Minor: \t {minor}\n"
        (tmp_path / bus / "information").write_text(text)
    assert proc_gpus(tmp_path) == (
        DriverGpu(product="Tesla T4", uuid="", minor=0),
        DriverGpu(product="NVIDIA H100 80GB HBM3", uuid="GPU-1", minor=1),
    )


class _NVMLError(Exception):
    pass


def _nvml(*gpus: tuple[str, str, int, bool], problem: str = "") -> SimpleNamespace:
    """Play the library: product, UUID, minor number, and whether MIG splits it."""

    def init() -> None:
        if problem:
            raise _NVMLError(problem)

    def mig_mode(handle: int) -> tuple[int, int]:
        if "T4" in gpus[handle][0]:
            raise _NVMLError("Not Supported")
        return (int(gpus[handle][3]), 0)

    return SimpleNamespace(
        NVMLError=_NVMLError,
        nvmlInit=init,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: len(gpus),
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: gpus[handle][0].encode(),
        nvmlDeviceGetUUID=lambda handle: gpus[handle][1],
        nvmlDeviceGetMinorNumber=lambda handle: gpus[handle][2],
        nvmlDeviceGetMigMode=mig_mode,
    )


def test_nvml_names_every_gpu_that_is_not_split(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = _nvml(("Tesla T4", "GPU-1", 0, False), ("NVIDIA H100", "GPU-2", 1, True), ("NVIDIA L4", "GPU-3", 2, False))
    monkeypatch.setitem(sys.modules, "pynvml", gpus)
    found = driver_gpus()
    assert [(gpu.product, gpu.uuid, gpu.minor) for gpu in found.gpus] == [
        ("Tesla T4", "GPU-1", 0),
        ("NVIDIA L4", "GPU-3", 2),
    ]
    assert found.looked_at == ("NVML",)


def test_without_a_driver_it_is_told_why_nvml_knows_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", _nvml(problem="NVML Shared Library Not Found"))
    assert driver_gpus(tmp_path / "nvidia" / "gpus") == DriverGpus(
        gpus=(), looked_at=("NVML (NVML Shared Library Not Found)", str(tmp_path / "nvidia"))
    )


def test_without_the_library_it_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    [place] = driver_gpus(tmp_path / "nvidia" / "gpus").looked_at
    assert place == f"{tmp_path / 'nvidia'} (for NVML: `pip install 'pytest-imagebuild[gpu]'`)"


# specifications -----------------------------------------------------------------------------------------------------


def _node(path: str) -> Mapping[str, Any]:
    return {"deviceNodes": [{"path": path}]}


def _specify(folder: Path, kind: str, *devices: Mapping[str, Any], name: str = "x.json", **more: Any) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps({"cdiVersion": "0.6.0", "kind": kind, "devices": devices, **more}))


def _names(folder: Path, *gpus: DriverGpu) -> list[tuple[str, tuple[str, ...]]]:
    found = joined(cdi.read([folder]).devices, DriverGpus(gpus=gpus, looked_at=()))
    return [(each.gpu.id, each.gpu.types) for each in found]


def test_a_device_of_the_class_gpu_is_one_and_another_only_with_the_annotation(tmp_path: Path) -> None:
    _specify(tmp_path, "acme.com/gpu", {"name": "a"}, name="1.json")
    _specify(tmp_path, "acme.com/net", {"name": "b"}, name="2.json")
    _specify(tmp_path, "acme.com/tpu", {"name": "c", "annotations": {"imagebuild/gpu-type": "v5e"}}, name="3.json")
    assert _names(tmp_path) == [("acme.com/gpu=a", ()), ("acme.com/tpu=c", ("V5E",))]


def test_the_annotation_of_a_specification_holds_for_its_devices_unless_they_have_their_own(tmp_path: Path) -> None:
    _specify(
        tmp_path,
        "acme.com/gpu",
        {"name": "a"},
        {"name": "b", "annotations": {"imagebuild/gpu-type": "X2, X2 large"}},
        annotations={"imagebuild/gpu-type": "X1"},
    )
    assert _names(tmp_path) == [("acme.com/gpu=a", ("X1",)), ("acme.com/gpu=b", ("X2", "X2-LARGE"))]


def test_a_gpu_of_several_names_is_one_and_all_of_them_is_none(tmp_path: Path) -> None:
    one, two = _node("/dev/nvidia0"), _node("/dev/nvidia1")
    both = {"deviceNodes": [{"path": "/dev/nvidia0"}, {"path": "/dev/nvidia1"}]}
    _specify(
        tmp_path,
        "nvidia.com/gpu",
        {"name": "0", "containerEdits": one},
        {"name": "1", "containerEdits": two},
        {"name": "GPU-1", "containerEdits": one},
        {"name": "all", "containerEdits": both},
        {"name": "pair", "containerEdits": both},
    )
    assert _names(tmp_path) == [("nvidia.com/gpu=1", ()), ("GPU-1", ())]


def test_the_driver_and_a_specification_describe_one_gpu(tmp_path: Path) -> None:
    _specify(
        tmp_path,
        "nvidia.com/gpu",
        {"name": "0", "containerEdits": _node("/dev/nvidia0")},
        {"name": "1", "containerEdits": _node("/dev/nvidia1")},
    )
    found = list(joined(cdi.read([tmp_path]).devices, DriverGpus(gpus=(A10G, H100), looked_at=())))
    assert [(each.gpu.id, each.gpu.name, each.cdi.name if each.cdi else None) for each in found] == [
        ("GPU-2", "NVIDIA A10G", "1"),
        ("GPU-1", "NVIDIA H100 80GB HBM3", "0"),
    ]


def test_a_part_of_a_gpu_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    _specify(tmp_path, "nvidia.com/gpu", {"name": "0:1", "containerEdits": _node("/dev/nvidia0")})
    assert [name for name, _ in _names(tmp_path, H100)] == ["GPU-1", "nvidia.com/gpu=0:1"]


def test_the_later_folder_wins_and_two_in_one_folder_count_for_nothing(tmp_path: Path) -> None:
    early, late = tmp_path / "early", tmp_path / "late"
    _specify(early, "acme.com/gpu", {"name": "a", "containerEdits": _node("/dev/early")}, {"name": "b"})
    _specify(late, "acme.com/gpu", {"name": "a", "containerEdits": _node("/dev/late")}, {"name": "c"}, name="1.json")
    _specify(late, "acme.com/gpu", {"name": "c"}, name="2.json")
    found = cdi.read([early, late])
    assert {device.name: [node.path for node in device.edits.nodes] for device in found.devices} == {
        "a": ["/dev/late"],
        "b": [],
    }
    assert found.problems == (f"{late}, which describes acme.com/gpu=c twice",)


def test_the_fields_of_a_specification_are_read(tmp_path: Path) -> None:
    edits = {
        "env": ["A=1=2"],
        "deviceNodes": [{"path": "/dev/a", "hostPath": "/dev/b"}, {"path": "/dev/c"}],
        "mounts": [
            {"hostPath": "/h", "containerPath": "/c", "options": ["ro", "nosuid"]},
            {"hostPath": "tmpfs", "containerPath": "/t", "type": "tmpfs"},
        ],
        "hooks": [{"hookName": "createContainer", "path": "/usr/bin/tool", "args": ["tool", "do", "it"]}],
    }
    _specify(tmp_path, "acme.com/gpu", {"name": 0, "containerEdits": edits}, containerEdits={"env": ["B=3"]})
    [device] = cdi.read([tmp_path]).devices
    assert device.qualified == "acme.com/gpu=0"
    assert device.shared == cdi.Edits(environment=(("B", "3"),))
    assert device.edits == cdi.Edits(
        nodes=(cdi.DeviceNode(path="/dev/a", source="/dev/b"), cdi.DeviceNode(path="/dev/c", source="/dev/c")),
        mounts=(
            cdi.CdiMount(source="/h", target="/c", writable=False),
            cdi.CdiMount(source="tmpfs", target="/t", writable=True, kind="tmpfs"),
        ),
        environment=(("A", "1=2"),),
        hooks=(cdi.Hook(program="tool", arguments=("do", "it")),),
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name enclosed in double quotes"),
        ("[]", "list indices must be integers"),
        ('{"devices": []}', "it has no 'kind'"),
        ('{"kind": "acme", "devices": []}', "its kind is 'acme', not vendor/class"),
        ('{"kind": "a/b", "devices": [{}]}', "it has no 'name'"),
        ('{"kind": "a/b", "devices": [{"name": "x", "containerEdits": {"env": ["A"]}}]}', "'A' is not NAME=VALUE"),
        ('{"kind": "a/b", "devices": [{"name": "x", "containerEdits": {"mounts": [{}]}}]}', "it has no 'hostPath'"),
    ],
)
def test_a_specification_that_is_wrong_is_told_and_the_others_count(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    (tmp_path / "ignored.txt").write_text(text)
    _specify(tmp_path, "acme.com/gpu", {"name": "a"})
    found = cdi.read([tmp_path])
    assert [device.name for device in found.devices] == ["a"]
    [problem] = found.problems
    assert problem.startswith(f"{tmp_path / 'bad.json'}, which cannot be used: ")
    assert reason in problem


def test_a_specification_in_yaml_is_read(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    (tmp_path / "nvidia.yaml").write_text(
        "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: '0'\n  containerEdits:\n    deviceNodes:\n"
        "    - path: /dev/nvidia0\n"
    )
    assert _names(tmp_path, H100) == [("GPU-1", ("H100-80GB", "H100"))]


def test_without_a_reader_of_yaml_it_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    file = tmp_path / "nvidia.yaml"
    file.write_text("kind: nvidia.com/gpu\n")
    [problem] = cdi.read([tmp_path]).problems
    assert problem == f"{file}, which cannot be used: it is YAML; `pip install 'pytest-imagebuild[gpu]'` to read it"


def test_the_folders_are_those_of_the_variable_and_every_place_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", _nvml())
    one, two = tmp_path / "one", tmp_path / "two"
    _specify(two, "acme.com/gpu", {"name": "a"})
    found = host_gpus(environment={"IMAGEBUILD_CDI_DIRS": f"{one}:{two}"})
    assert [each.gpu.id for each in found.gpus] == ["acme.com/gpu=a"]
    assert found.looked_at == ("NVML", f"CDI specifications in {one}, {two}")
    assert cdi.cdi_folders({}) == (Path("/etc/cdi"), Path("/var/run/cdi"))
