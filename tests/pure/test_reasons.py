"""Why a layer was not in the cache."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_imagebuild.build.reasons import miss_reason
from pytest_imagebuild.engines.layers import BuiltLayer, LayerLabels
from pytest_imagebuild.plan.keys import MISS_WORDS, KeyInputs

INPUTS = KeyInputs(
    builder="2026.10", platform="linux/amd64", parent="p", generation="", step="s", contents="c", pins="i"
)
NEVER = "it was never built on this engine"


def built(step: str, inputs: KeyInputs, *, key: str = "", created: float = 0.0) -> BuiltLayer:
    labels = LayerLabels(
        key=key or inputs.key,
        parent=inputs.parent,
        generation="",
        run="r",
        step=step,
        inputs={name: value for name, value in inputs.to_dict().items() if value},
    )
    return BuiltLayer(labels=labels, reference="x", size=0, created=created)


def test_an_empty_engine_never_built_it() -> None:
    assert miss_reason("a()", INPUTS, []) == NEVER


def test_layers_of_other_steps_on_other_parents_say_nothing() -> None:
    assert miss_reason("a()", INPUTS, [built("b()", replace(INPUTS, parent="q"))]) == NEVER


@pytest.mark.parametrize("name", MISS_WORDS)
def test_the_input_that_differs_is_named(name: str) -> None:
    assert miss_reason("a()", INPUTS, [built("a()", replace(INPUTS, **{name: "old"}))]) == MISS_WORDS[name]


@pytest.mark.parametrize("name", MISS_WORDS)
def test_an_input_that_was_empty_is_named_too(name: str) -> None:
    assert miss_reason("a()", INPUTS, [built("a()", replace(INPUTS, **{name: ""}))]) == (
        MISS_WORDS[name] if name != "generation" else "the built layer is gone"
    )


def test_several_differences_are_all_named() -> None:
    old = built("a()", replace(INPUTS, contents="old", pins="old"))
    assert miss_reason("a()", INPUTS, [old]) == f"{MISS_WORDS['contents']}; {MISS_WORDS['pins']}"


def test_another_step_on_the_same_parent_is_shown() -> None:
    assert miss_reason("a()", INPUTS, [built("b()", replace(INPUTS, step="old"))]) == "the step changed: it was b()"


def test_another_base_says_nothing_of_a_base() -> None:
    base = replace(INPUTS, parent="", step="new")
    assert miss_reason("from_registry('b')", base, [built("from_registry('a')", replace(base, step="old"))]) == NEVER


def test_the_layer_that_is_most_alike_explains_and_of_two_alike_the_younger() -> None:
    layers = [
        built("a()", replace(INPUTS, pins="old", parent="q"), created=9),
        built("a()", replace(INPUTS, contents="old"), created=1),
        built("a()", replace(INPUTS, pins="old"), created=2),
    ]
    assert miss_reason("a()", INPUTS, layers) == MISS_WORDS["pins"]


def test_the_lower_layers_of_the_same_step_say_nothing() -> None:
    base = built("debian_slim()", replace(INPUTS, parent="", step="1"), key="base")
    middle = built("debian_slim()", replace(INPUTS, parent="base", step="2"), key="middle")
    wanted = replace(INPUTS, parent="middle", step="3")
    assert miss_reason("debian_slim()", wanted, [base, middle]) == NEVER


def test_a_layer_without_inputs_says_nothing() -> None:
    old = built("a()", INPUTS)
    bare = replace(old, labels=replace(old.labels, inputs={}))
    assert miss_reason("a()", INPUTS, [bare]) == NEVER
