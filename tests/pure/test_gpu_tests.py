"""Tests that ask for a GPU on a machine that has none: what a user of plain pytest sees, and the marker `gpu`."""

from __future__ import annotations

import re

import pytest
from doubles import plugin_arguments

from pytest_imagebuild.image.gpu import read_gpus

pytest_plugins = ["pytester"]

PROJECT = """
    import pytest
    from pytest_imagebuild import Image

    IMAGE = Image.from_registry("debian:trixie")

    @pytest.mark.image(IMAGE, gpu="H100:2")
    def test_with():
        pass

    @pytest.mark.image(IMAGE, gpu=["B200", "H100"])
    class TestIt:
        def test_with_either(self):
            pass

    def test_on_the_host():
        pass
    """
LOOKED = "(looked at the memory of the engine)"


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("IMAGEBUILD_CACHE_DIR", str(pytester.path / "cache"))
    monkeypatch.setenv("IMAGEBUILD_ENGINE", "memory")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    pytester.makepyfile(PROJECT)
    pytester.makeini("[pytest]\naddopts = --strict-markers\n")
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return project.runpytest_subprocess(*plugin_arguments(), "-p", "no:cacheprovider", *arguments)


def test_a_test_without_a_gpu_is_skipped_with_what_was_asked_and_found_and_nothing_is_built(
    project: pytest.Pytester,
) -> None:
    ran = run(project, "-rs", "-v")
    ran.assert_outcomes(passed=1, skipped=2)
    ran.stdout.fnmatch_lines_random(
        [
            f"SKIPPED [[]1[]] *.py:6: asked for H100:2, found no GPU {LOOKED}",
            f"SKIPPED [[]1[]] *.py:12: asked for B200 or H100, found no GPU {LOOKED}",
        ]
    )
    assert re.search(r"layers: reused 0, built 0", ran.stdout.str())


@pytest.mark.parametrize("how", ["flag", "ini"])
def test_a_test_without_a_gpu_fails_in_set_up_where_that_is_asked(project: pytest.Pytester, how: str) -> None:
    if how == "ini":
        project.makeini("[pytest]\ngpu_missing = fail\n")
    ran = run(project, *(["--gpu-missing=fail"] if how == "flag" else []))
    ran.assert_outcomes(passed=1, errors=2)
    advice = "Run it where there is such a GPU, or let it be skipped: --gpu-missing=skip."
    ran.stdout.fnmatch_lines([f"asked for H100:2, found no GPU {LOOKED}. {advice}"])


def test_the_flag_wins_over_the_ini_file(project: pytest.Pytester) -> None:
    project.makeini("[pytest]\ngpu_missing = fail\n")
    run(project, "--gpu-missing=skip").assert_outcomes(passed=1, skipped=2)


def test_a_wrong_word_in_the_ini_file_is_told(project: pytest.Pytester) -> None:
    project.makeini("[pytest]\ngpu_missing = ignore\n")
    ran = run(project)
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    ran.stderr.fnmatch_lines(["ERROR: gpu_missing in the ini file is 'ignore'; it takes skip or fail."])


@pytest.mark.parametrize(
    ("expression", "selected"),
    [("gpu", {"test_with", "TestIt::test_with_either"}), ("not gpu", {"test_on_the_host"})],
)
def test_the_marker_selects_what_asks_for_a_gpu(project: pytest.Pytester, expression: str, selected: set[str]) -> None:
    ran = run(project, "--collect-only", "-q", "-m", expression)
    assert {line.partition("::")[2] for line in ran.outlines if "::" in line} == selected


def test_the_marker_is_known(project: pytest.Pytester) -> None:
    run(project, "--markers").stdout.fnmatch_lines(["@pytest.mark.gpu: the test asks for a GPU: *"])


def test_with_no_image_the_test_runs_on_the_host_whatever_it_has(project: pytest.Pytester) -> None:
    run(project, "--no-image").assert_outcomes(passed=3)


def test_under_xdist_they_are_skipped_as_well(project: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    run(project, "-p", "xdist", "-n2").assert_outcomes(passed=1, skipped=2)


def test_a_wrong_request_is_told_at_the_line_of_the_test(project: pytest.Pytester) -> None:
    project.makepyfile(PROJECT.replace("H100:2", "H100:two"))
    ran = run(project)
    ran.stderr.fnmatch_lines(
        ["ERROR: *.py:6: @pytest.mark.image of test_with: Invalid GPU count: two. Value must be an integer."]
    )


def test_a_request_is_the_same_however_it_is_written() -> None:
    assert read_gpus("h100", fallbacks=True) == read_gpus(["H100:1"], fallbacks=True)
