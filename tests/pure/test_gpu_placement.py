"""What a container gets for a GPU: from its specification, or by the driver's own list."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_imagebuild.engines.gpus import driver
from pytest_imagebuild.engines.gpus.cdi import CdiMount, DeviceNode, Edits, Hook
from pytest_imagebuild.engines.gpus.driver import libraries_in
from pytest_imagebuild.engines.gpus.nvidia import DriverGpu
from pytest_imagebuild.engines.gpus.placement import Placement, placement

LIB = "/usr/lib/x86_64-linux-gnu"


@pytest.fixture
def libcuda(tmp_path: Path) -> CdiMount:
    """A library of a driver, with the link by which programs ask for it, and another library beside it."""
    (tmp_path / "libcuda.so.550.54").touch()
    (tmp_path / "libcuda.so.1").symlink_to("libcuda.so.550.54")
    (tmp_path / "libcudart.so.12").touch()
    return CdiMount(source=str(tmp_path / "libcuda.so.550.54"), target=f"{LIB}/libcuda.so.550.54", writable=False)


def test_a_folder_of_the_linkers_cache_is_searched_and_has_the_names_that_this_machine_knows(libcuda: CdiMount) -> None:
    hook = Hook(program="nvidia-cdi-hook", arguments=("update-ldcache", "--folder", LIB))
    placed = placement(Edits(mounts=(libcuda,), hooks=(hook,)))
    assert {mount.target: mount.source for mount in placed.mounts} == {
        f"{LIB}/libcuda.so.550.54": libcuda.source,
        f"{LIB}/libcuda.so.1": libcuda.source,
    }
    assert placed.library_folders == (LIB,)
    assert placed.lost == ()


def test_the_same_hooks_under_the_older_name_of_the_program(libcuda: CdiMount) -> None:
    hook = Hook(program="nvidia-ctk", arguments=("hook", "update-ldcache", f"--folder={LIB},/opt/lib"))
    assert placement(Edits(mounts=(libcuda,), hooks=(hook,))).library_folders == (LIB, "/opt/lib")


def test_a_link_to_what_is_mounted_becomes_a_mount_of_it(libcuda: CdiMount) -> None:
    hooks = (
        Hook(program="nvidia-cdi-hook", arguments=("create-symlinks", "--link", f"libcuda.so.1::{LIB}/libcuda.so")),
        Hook(program="nvidia-cdi-hook", arguments=("update-ldcache", "--folder", LIB)),
    )
    placed = placement(Edits(mounts=(libcuda,), hooks=hooks))
    assert {mount.target: mount.source for mount in placed.mounts}[f"{LIB}/libcuda.so"] == libcuda.source
    assert placed.lost == ()


def test_what_cannot_be_done_is_told() -> None:
    hooks = (
        Hook(program="nvidia-cdi-hook", arguments=("create-symlinks", "--link", "../nowhere::/etc/here")),
        Hook(program="nvidia-cdi-hook", arguments=("enable-cuda-compat", "--host-driver-version=550")),
        Hook(program="prepare", arguments=("--now",)),
        Hook(program="nvidia-cdi-hook", arguments=("chmod", "--mode", "755", "--path", "/dev/dri")),
    )
    mounts = (CdiMount(source="tmpfs", target="/scratch", writable=True, kind="tmpfs"),)
    placed = placement(Edits(mounts=mounts, hooks=hooks))
    assert placed.mounts == ()
    assert placed.lost == (
        "the mount of type tmpfs at /scratch",
        "its hook nvidia-cdi-hook enable-cuda-compat --host-driver-version=550",
        "its hook prepare --now",
        "its link /etc/here to ../nowhere",
    )


def test_two_gpus_share_what_both_need() -> None:
    shared = CdiMount(source="/a", target="/a", writable=False)
    one, two = (
        Placement(
            nodes=(DeviceNode(path=path, source=path), DeviceNode(path="/dev/ctl", source="/dev/ctl")),
            mounts=(shared,),
            environment=(("A", "1"),),
            library_folders=("/lib",),
        )
        for path in ("/dev/one", "/dev/two")
    )
    both = one + two
    assert [node.path for node in both.nodes] == ["/dev/one", "/dev/ctl", "/dev/two"]
    assert (both.mounts, both.environment, both.library_folders) == ((shared,), (("A", "1"),), ("/lib",))


def test_the_libraries_of_the_driver_are_told_from_others_and_from_those_of_other_processors() -> None:
    listing = """\
5 libs found in cache `/etc/ld.so.cache'
\tlibnvidia-ml.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libnvidia-ml.so.1
\tlibnvidia-ml.so.1 (libc6) => /lib/i386-linux-gnu/libnvidia-ml.so.1
\tlibnvidia-gpucomp.so.550.54 (libc6,x86-64) => /lib/x86_64-linux-gnu/libnvidia-gpucomp.so.550.54
\tlibcudart.so.12 (libc6,x86-64) => /usr/local/cuda/lib64/libcudart.so.12
\tlibcuda.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libcuda.so.1
\tlibGLX_nvidia.so.0 (libc6,x86-64) => /lib/x86_64-linux-gnu/libGLX_nvidia.so.0
"""
    assert dict(libraries_in(listing, "x86_64")) == {
        "libnvidia-ml.so.1": "/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
        "libnvidia-gpucomp.so.550.54": "/lib/x86_64-linux-gnu/libnvidia-gpucomp.so.550.54",
        "libcuda.so.1": "/lib/x86_64-linux-gnu/libcuda.so.1",
    }


def test_without_a_specification_a_container_gets_the_nodes_and_the_libraries_below_dev(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = CdiMount(source="/lib/libcuda.so.550", target=f"{driver.LIBRARIES}/libcuda.so.1", writable=False)
    monkeypatch.setattr(driver, "_libraries", lambda: (library,))
    monkeypatch.setattr(driver, "_exists", lambda path: path in {"/dev/nvidiactl", "/dev/nvidia-uvm"})
    monkeypatch.setattr("shutil.which", lambda name: f"/opt/bin/{name}")
    placed = driver.driver_placement([DriverGpu(product="Tesla T4", uuid="GPU-1", minor=3)])
    assert [node.path for node in placed.nodes] == ["/dev/nvidia3", "/dev/nvidiactl", "/dev/nvidia-uvm"]
    assert {mount.target: mount.source for mount in placed.mounts} == {
        "/dev/imagebuild-gpu/lib/libcuda.so.1": "/lib/libcuda.so.550",
        "/usr/bin/nvidia-smi": "/opt/bin/nvidia-smi",
    }
    assert placed.library_folders == ("/dev/imagebuild-gpu/lib",)
    assert placed.lost == ()


def test_a_driver_without_libraries_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_libraries", tuple)
    placed = driver.driver_placement([DriverGpu(product="Tesla T4", uuid="GPU-1", minor=3)])
    assert placed.lost == ("the libraries of the driver, of which `ldconfig -p` knows none",)
