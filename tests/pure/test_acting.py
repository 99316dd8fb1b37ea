"""`Image.build()` and what else acts at once, on the engine in memory; `tests/e2e` has it on real ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from doubles import Shell, options_in

from pytest_imagebuild import DefinitionError, Image, StepError, local
from pytest_imagebuild.engines.memory import CommandResult, MemoryEngine

NOT_BUILT = "Cannot fetch logs for an image that has not been built yet. Call `.build()` first."


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryEngine:
    """The engine that a program uses which is not run by pytest."""
    engine = MemoryEngine(commands=Shell(failing={"bad": CommandResult(exit_code=3, stdout=b"no luck\n")}))
    monkeypatch.setattr(local, "current_config", lambda: None)
    monkeypatch.setattr(local, "options_of", lambda parsed: options_in(tmp_path))
    monkeypatch.setattr(local, "choose_engine", lambda name, **more: engine)
    monkeypatch.setattr(local, "_attempts", {})
    return engine


def image(*commands: str) -> Image:
    return Image.from_registry("debian:trixie").run_commands(*(commands or ("a",)))


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(DefinitionError) as caught:
        call()
    return str(caught.value).partition("test_acting.py:")[2].partition(": ")[2]


def builds(engine: MemoryEngine) -> int:
    return sum(call.name == "build" for call in engine.calls)


def test_an_image_is_built_once_and_given_back(engine: MemoryEngine) -> None:
    one = image()
    assert one.object_id is None
    assert one.build() is one
    assert one.build(app="ignored") is one
    assert builds(engine) == 1
    (key,) = (key for key, layer in engine.layers().items() if layer.labels.step == 'run_commands("a")')
    assert one.object_id == f"im-{key[:22]}"
    assert image().object_id == one.object_id, "an equal image is the same image"


def test_what_its_steps_printed_is_kept_and_nobody_elses(engine: MemoryEngine) -> None:
    below, one = image("x"), image("x").run_commands("y", "z")
    below.build()
    one.build()
    assert below.logs.fetch() == ("ok",)
    assert one.logs.fetch() == ("ok", "ok")
    assert one.logs.tail(1) == ("ok",)
    assert one.logs.tail(0) == ()


def test_a_failed_build_raises_and_leaves_its_lines_and_no_id(engine: MemoryEngine) -> None:
    one = image("good").run_commands("bad")
    with pytest.raises(StepError):
        one.build()
    assert one.object_id is None
    assert one.logs.fetch() == ("ok",)
    assert refusal(lambda: one.publish("x")).startswith("publish: Cannot publish an image that has not been created")


def test_before_it_is_built_there_are_no_logs_no_name_and_no_hydration() -> None:
    one = image("never built")
    assert refusal(one.logs.fetch) == f"logs: {NOT_BUILT}"
    assert refusal(one.logs.tail) == f"logs: {NOT_BUILT}"
    assert refusal(lambda: one.publish("x")) == (
        "publish: Cannot publish an image that has not been created yet. Call `.build()` first."
    )
    assert refusal(one.hydrate) == (
        "hydrate: Images cannot be hydrated on demand, and this one was not built. Call `.build()` instead."
    )


def test_a_wrong_name_is_told_before_anything_else() -> None:
    assert refusal(lambda: image("never built").publish("im-x")) == (
        "publish: the name of an image cannot start with 'im-', got 'im-x'; a tag can"
    )


def test_what_is_published_is_found_by_its_name(engine: MemoryEngine) -> None:
    one = image().build()
    one.publish("base", environment_name="dev")
    assert one.hydrate() is one
    top = Image.from_name("dev/base").run_commands("b").build()
    layer = next(layer for layer in engine.layers().values() if f"im-{layer.labels.key[:22]}" == top.object_id)
    assert engine.images[layer.reference].commands == ("a", "b")


def test_each_has_a_twin_to_await(engine: MemoryEngine) -> None:
    async def main() -> str | None:
        one = image("twin")
        with pytest.raises(DefinitionError, match=r"test_acting\.py:\d+: publish: Cannot publish"):
            await one.publish.aio("x")
        assert await one.build.aio() is one
        await one.publish.aio("x")
        return (await one.hydrate.aio()).object_id

    assert asyncio.run(main()) is not None


def test_in_a_container_nothing_is_built_or_named(engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEBUILD_IMAGE", "anything")
    one = image()
    assert one.build() is one
    one.publish("base")
    assert one.hydrate() is one
    assert engine.calls == []
    assert refusal(lambda: one.publish("a b")).startswith("publish: the name 'a b' may have letters")


@pytest.mark.parametrize("method", ["build", "publish", "hydrate"])
def test_on_the_class_itself_each_says_what_is_missing(method: str) -> None:
    said = refusal(getattr(Image, method))
    assert said.startswith(f"{method}: Image has not been constructed yet. Use one of the static factory methods")
