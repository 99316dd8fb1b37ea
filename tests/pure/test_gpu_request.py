"""What `gpu=` takes, what it says of a wrong value, and what of it enters a key."""

from __future__ import annotations

import inspect

import pytest
from doubles import plan

from pytest_imagebuild import DefinitionError, Image
from pytest_imagebuild.image.calls import ChainCall
from pytest_imagebuild.image.gpu import GpuRequest, read_gpus, shown_gpus

SLIM = Image.debian_slim("3.13")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ()),
        ("H100", (GpuRequest(type="H100"),)),
        ("a10g", (GpuRequest(type="A10G"),)),
        ("A100:2", (GpuRequest(type="A100", count=2),)),
        ("any", (GpuRequest(type="ANY"),)),
        (["H100", "A100:4"], (GpuRequest(type="H100"), GpuRequest(type="A100", count=4))),
        (["H100", "h100:1"], (GpuRequest(type="H100"),)),
        ([], ()),
    ],
)
def test_a_request_is_a_type_and_a_count_and_a_list_has_the_best_first(
    value: object, expected: tuple[GpuRequest, ...]
) -> None:
    assert read_gpus(value, fallbacks=True) == expected


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("H100:two", "Invalid GPU count: two. Value must be an integer."),
        ("H100:", "Invalid GPU count: . Value must be an integer."),
        ("H100:1.5", "Invalid GPU count: 1.5. Value must be an integer."),
        ("H100:2:3", "Invalid GPU count: 2:3. Value must be an integer."),
        ("H100:0", "Invalid GPU count: 0. Value must be 1 or more."),
        ("H100:-1", "Invalid GPU count: -1. Value must be 1 or more."),
        (":2", 'Invalid GPU config: \':2\'. Write TYPE or TYPE:COUNT, as "H100" or "A100:2".'),
        ("", 'Invalid GPU config: \'\'. Write TYPE or TYPE:COUNT, as "H100" or "A100:2".'),
        (2, "Invalid GPU config: 2. Value must be a string or `None`."),
        (True, "Invalid GPU config: True. Value must be a string or `None`."),
        (["H100"], "Invalid GPU config: ['H100']. Value must be a string or `None`."),
    ],
)
def test_a_wrong_value_is_told_at_the_users_line(value: object, sentence: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        SLIM.run_commands("true", gpu=value)  # type: ignore[arg-type]
    frame = inspect.currentframe()
    assert frame is not None
    assert str(caught.value) == f"{__file__}:{frame.f_lineno - 3}: run_commands: {sentence}"


@pytest.mark.parametrize("value", [["H100", 2], 3, {"H100": 1}])
def test_where_a_list_is_allowed_the_sentence_says_so(value: object) -> None:
    with pytest.raises(DefinitionError, match="Value must be a string, a list of strings or `None`"):
        ChainCall("run_function").gpu(value, fallbacks=True)


@pytest.mark.parametrize(
    "image",
    [
        SLIM.apt_install("git", gpu="T4"),
        SLIM.pip_install("numpy", gpu="T4"),
        SLIM.uv_pip_install("numpy", gpu="T4"),
        SLIM.run_commands("true", gpu="T4"),
    ],
)
def test_every_step_that_takes_a_gpu_has_it_in_its_layer(image: Image) -> None:
    *below, top = plan(image).layers
    assert top.gpu == (GpuRequest(type="T4"),)
    assert all(layer.gpu == () for layer in below)


def test_a_gpu_changes_the_key_of_its_own_layer_alone() -> None:
    plain, same, other = (plan(SLIM.run_commands("true", gpu=gpu)) for gpu in (None, "t4:1", "T4"))
    assert [layer.step for layer in plain.layers[:-1]] == [layer.step for layer in other.layers[:-1]]
    assert plain.layers[-1].step != other.layers[-1].step
    assert same.layers[-1].step == other.layers[-1].step
    assert plain.layers[-1].step == plan(SLIM.run_commands("true")).layers[-1].step


def test_what_was_asked_is_shown_as_it_would_be_written() -> None:
    assert shown_gpus(read_gpus(["h100:2", "A100", "any"], fallbacks=True)) == "H100:2 or A100 or any"
