"""What the memory engine gives to tests of plugins."""

from __future__ import annotations

import pytest

from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.layers import BasePin, BuiltLayer, LayerLabels
from pytest_imagebuild.engines.memory import Call, CommandResult, MemoryEngine
from pytest_imagebuild.engines.work import CommandFailed, ConfigChange, Work
from pytest_imagebuild.errors import BaseImageError, EngineError


def labels(key: str = "k", namespace: str = "") -> LayerLabels:
    return LayerLabels(key=key, parent="", generation="", run="r", namespace=namespace)


def base(engine: MemoryEngine) -> BuiltLayer:
    return engine.import_base("x", engine.pin_base("x", print), labels("base"), print)


def test_calls_are_recorded_in_order() -> None:
    engine = MemoryEngine()
    layer = base(engine)
    work = Work(commands=("true",))
    engine.build(layer, work, labels(), print)
    assert [call.name for call in engine.calls] == ["pin_base", "import_base", "build"]
    assert engine.calls[-1] == Call(name="build", arguments=(layer, work, labels()))


def test_a_method_fails_when_the_test_says_so() -> None:
    engine = MemoryEngine()
    engine.fail["pin_base"] = BaseImageError("no such image")
    with pytest.raises(BaseImageError, match="no such image"):
        engine.pin_base("x", print)
    assert engine.calls == [Call(name="pin_base", arguments=("x",))]


def test_commands_do_what_the_test_says() -> None:
    engine = MemoryEngine(commands=lambda command, work: CommandResult(stdout=command.encode(), exit_code=len(command)))
    with pytest.raises(CommandFailed) as caught:
        engine.run(base(engine), Work(commands=("", "abc")), print)
    assert (caught.value.index, caught.value.exit_code, caught.value.output) == (1, 3, "abc")


def test_bases_are_those_that_the_test_names() -> None:
    pin = BasePin(digest="sha256:" + "0" * 64, source="bootstrap")
    engine = MemoryEngine(bases={"known": pin})
    assert engine.pin_base("known", print) == pin
    with pytest.raises(BaseImageError, match="the base image x was asked of the memory engine, which knows known"):
        engine.pin_base("x", print)
    with pytest.raises(
        BaseImageError, match="known is pinned to sha256:1, but it is sha256:0+ in memory".replace("+", "{64}")
    ):
        engine.import_base("known", BasePin(digest="sha256:1", source="bootstrap"), labels(), print)


def test_an_image_holds_what_was_put_in() -> None:
    engine = MemoryEngine()
    change = ConfigChange(environment=(("A", "b"),), workdir="sub", command=("x",))
    work = Work(files=(FileEntry(path="/f", mode=0o644, data=b"1"),), commands=("c",), config=change)
    lower = engine.build(base(engine), work, labels("lower"), print)
    upper = engine.build(lower, Work(config=ConfigChange(workdir="/abs")), labels("upper"), print)
    image = engine.images[upper.reference]
    assert (image.files, image.commands, image.environment) == ({"/f": b"1"}, ("c",), {"A": "b"})
    assert (image.workdir, image.command) == ("/abs", ("x",))
    assert engine.images[lower.reference].workdir == "/sub"


def test_a_layer_of_another_engine_is_refused() -> None:
    stranger = BuiltLayer(labels=labels(), reference="memory:99", size=0, created=0)
    with pytest.raises(EngineError, match="the memory engine has no image memory:99; build it first"):
        MemoryEngine().run(stranger, Work(), print)


def test_work_ends_with_its_time_or_its_memory() -> None:
    engine = MemoryEngine(commands=lambda command, work: CommandResult(seconds=2, out_of_memory=command == "eat"))
    layer = base(engine)
    engine.run(layer, Work(commands=("a", "b"), timeout=4), print)
    for work, index, ends in (
        (Work(commands=("a", "b", "c"), timeout=5), 2, (True, False)),
        (Work(commands=("a", "eat"), memory=1), 1, (False, True)),
    ):
        with pytest.raises(CommandFailed) as caught:
            engine.build(layer, work, labels(), print)
        failed = caught.value
        assert (failed.index, failed.exit_code, (failed.timed_out, failed.out_of_memory)) == (index, 137, ends)
