"""The `imports()` block."""

from __future__ import annotations

import warnings

import pytest
from doubles import plugin_arguments

from pytest_imagebuild import Image
from pytest_imagebuild.image.imports import IMAGE_VARIABLE

pytest_plugins = ["pytester"]

SCIENCE = Image.debian_slim("3.13").pip_install("numpy")
OTHER = Image.debian_slim("3.13")


def test_the_variable_is_the_one_that_sessions_set() -> None:
    assert IMAGE_VARIABLE == "IMAGEBUILD_IMAGE"


def test_on_the_host_an_import_error_is_swallowed_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(IMAGE_VARIABLE, raising=False)
    with warnings.catch_warnings(), SCIENCE.imports():
        warnings.simplefilter("error")
        raise ModuleNotFoundError("numpy")


@pytest.mark.parametrize("running", [None, "", "0" * 64, OTHER.definition])
def test_elsewhere_another_exception_is_swallowed_with_a_warning_at_the_block(
    monkeypatch: pytest.MonkeyPatch, running: str | None
) -> None:
    monkeypatch.delenv(IMAGE_VARIABLE, raising=False)
    if running is not None:
        monkeypatch.setenv(IMAGE_VARIABLE, running)
    sentence = r"caught a non-ImportError exception in an `imports\(\)` block: RuntimeError\('broken'\)"
    with pytest.warns(UserWarning, match=sentence) as caught, SCIENCE.imports():
        raise RuntimeError("broken")
    assert caught[0].filename == __file__


@pytest.mark.parametrize("problem", [ImportError("numpy"), RuntimeError("broken")])
def test_in_a_container_of_the_image_exceptions_are_raised(monkeypatch: pytest.MonkeyPatch, problem: Exception) -> None:
    monkeypatch.setenv(IMAGE_VARIABLE, Image.debian_slim("3.13").pip_install("numpy").definition)
    with pytest.raises(type(problem)) as caught, SCIENCE.imports():
        raise problem
    assert caught.value is problem


@pytest.mark.parametrize("problem", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_is_never_swallowed(problem: type[BaseException]) -> None:
    with pytest.raises(problem), SCIENCE.imports():
        raise problem


def test_a_skip_in_the_block_is_a_skip() -> None:
    with pytest.raises(pytest.skip.Exception), SCIENCE.imports():
        pytest.skip("no")


def test_a_block_without_a_problem_runs_to_its_end() -> None:
    with SCIENCE.imports():
        ran = True
    assert ran


def test_what_is_swallowed_is_remembered_with_the_line_of_its_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(IMAGE_VARIABLE, raising=False)
    image = Image.debian_slim("3.12").pip_install("remembered")
    problem = ModuleNotFoundError("No module named 'remembered'")
    for _ in range(2):
        with image.imports():
            raise problem
    [one] = Image.debian_slim("3.12").pip_install("remembered").swallowed_imports
    assert (one.error, one.error.__traceback__) == (problem, None)
    assert one.where is not None
    assert str(one) == (
        f"the imports() block at {__file__}:{one.where.line} failed here: "
        "ModuleNotFoundError: No module named 'remembered'"
    )
    assert OTHER.swallowed_imports == ()


def test_what_is_raised_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.debian_slim("3.12").pip_install("raised")
    monkeypatch.setenv(IMAGE_VARIABLE, image.definition)
    with pytest.raises(ImportError), image.imports():
        raise ImportError("raised")
    assert image.swallowed_imports == ()


NESTED = {
    "on the host the inner block swallows": (None, False),
    "in a container of the inner image it is raised through the outer block": (SCIENCE.definition, True),
    "in a container of the outer image the inner block swallows what is its own": (OTHER.definition, False),
}


@pytest.mark.parametrize(("running", "is_raised"), NESTED.values(), ids=NESTED)
def test_blocks_in_one_another_stand_each_for_its_own_image(
    monkeypatch: pytest.MonkeyPatch, running: str | None, is_raised: bool
) -> None:
    monkeypatch.delenv(IMAGE_VARIABLE, raising=False)
    if running is not None:
        monkeypatch.setenv(IMAGE_VARIABLE, running)
    went_on = False

    def nested() -> None:
        nonlocal went_on
        with OTHER.imports():
            with SCIENCE.imports():
                raise ImportError("numpy")
            went_on = True

    if is_raised:
        with pytest.raises(ImportError, match="numpy"):
            nested()
    else:
        nested()
    assert went_on != is_raised


MISSES = """
from pytest_imagebuild import Image
import pytest

image = Image.debian_slim("3.13").pip_install("pandas")

with image.imports():
    import no_such_pandas as pd

@pytest.mark.image(image)
def test_uses_it():
    pd.DataFrame()

@pytest.mark.image(image)
def test_has_a_bug():
    assert 1 == 2
"""


def test_on_the_host_a_test_that_misses_the_name_is_told_which_block_failed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=MISSES)
    result = pytester.runpytest_inprocess("--no-image", "-p", "no:cacheprovider", *plugin_arguments())
    result.assert_outcomes(failed=2)
    lines = result.stdout.lines
    sentence = (
        f"the imports() block at {pytester.path / 'test_it.py'}:6 failed here: "
        "ModuleNotFoundError: No module named 'no_such_pandas'"
    )
    title = " imports() blocks ".center(80, "-")
    assert [line for line in lines if "imports() block" in line] == [title, sentence]
    assert "E       NameError: name 'pd' is not defined" in lines
