"""Steps with `gpu=`: the engine is given leased GPUs, and where there are none the user's line is told."""

from __future__ import annotations

import inspect
import threading
from pathlib import Path

import pytest
from doubles import BASE, Shell, World, plan

from pytest_imagebuild import DefinitionError
from pytest_imagebuild.engines.gpus.inventory import Gpu, GpuInventory
from pytest_imagebuild.engines.memory import CommandResult, MemoryEngine
from pytest_imagebuild.engines.work import Work

TWO = GpuInventory(gpus=(Gpu(id="GPU-1", types=("T4",)), Gpu(id="GPU-2", types=("T4",))), looked_at=("here",))
WITH_GPU = BASE.run_commands("a", gpu="T4")


def _world(folder: Path, gpus: GpuInventory) -> World:
    world = World(folder)
    world.engine = MemoryEngine(commands=world.shell, gpus=gpus)
    return world


def _works(world: World) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    calls = [call for call in world.engine.calls if call.name in {"build", "run"}]
    return [(each.commands, each.gpus) for call in calls for each in call.arguments if isinstance(each, Work)]


def test_the_commands_of_the_step_have_a_gpu_and_those_of_others_have_none(tmp_path: Path) -> None:
    world = _world(tmp_path, TWO)
    world.builder("first").build(plan(WITH_GPU.run_commands("b").run_commands("c", gpu="any:2")))
    assert _works(world) == [(("a",), ("GPU-1",)), (("b",), ()), (("c",), ("GPU-1", "GPU-2"))]


def test_packages_are_resolved_without_and_installed_with_a_gpu(tmp_path: Path) -> None:
    world = _world(tmp_path, TWO)
    world.builder("first").build(plan(BASE.pip_install("six", gpu="T4")))
    assert [gpus for _, gpus in _works(world)] == [(), ("GPU-1",)]


def test_without_such_a_gpu_the_users_line_is_told(tmp_path: Path) -> None:
    world = _world(tmp_path, GpuInventory(looked_at=("here", "there")))
    image = BASE.run_commands("a", gpu="H100:2")
    frame = inspect.currentframe()
    assert frame is not None
    line = frame.f_lineno - 3
    with pytest.raises(DefinitionError) as caught:
        world.builder("first").build(plan(image))
    assert str(caught.value) == (
        f'{__file__}:{line}: run_commands("a"): asked for H100:2, found no GPU (looked at here, there). '
        "A step with gpu= is built where there is such a GPU: build the image there, or leave gpu= out."
    )


def test_a_layer_that_is_built_needs_no_gpu_any_more(tmp_path: Path) -> None:
    world = _world(tmp_path, TWO)
    world.builder("first").build(plan(WITH_GPU))
    world.engine._gpus = GpuInventory()
    built = world.builder("second").build(plan(WITH_GPU))
    assert built.labels.step == 'run_commands("a")'


def test_two_steps_side_by_side_never_have_the_same_gpu(tmp_path: Path) -> None:
    together = threading.Barrier(2)

    class Meeting(Shell):
        def __call__(self, command: str, work: Work) -> CommandResult:
            together.wait(60)
            return CommandResult()

    world = World(tmp_path, shell=Meeting())
    world.engine = MemoryEngine(commands=world.shell, gpus=TWO)
    world.builder("first").build_all([plan(WITH_GPU), plan(BASE.run_commands("b", gpu="T4"))])
    assert {gpus for _, gpus in _works(world)} == {("GPU-1",), ("GPU-2",)}


def test_the_gpu_of_a_step_that_fails_is_free_again(tmp_path: Path) -> None:
    world = _world(tmp_path, GpuInventory(gpus=TWO.gpus[:1]))
    world.shell.failing["bad"] = CommandResult(exit_code=1)
    builder = world.builder("first")
    failed, built = builder.build_all([plan(BASE.run_commands("bad", gpu="T4")), plan(WITH_GPU)])
    assert failed.exception() is not None
    assert built.exception() is None
