"""The `imports()` block."""

from __future__ import annotations

import warnings

import pytest

from pytest_imagebuild import Image
from pytest_imagebuild.image import IMAGE_VARIABLE

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
