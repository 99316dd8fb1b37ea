"""Bad input: each mistake gets its sentence, at the user's line, and nothing is left half-built."""

from __future__ import annotations

import os
import re

import pytest
from engines import EngineUnderTest, on_one_engine

BASE = "python:3.13-slim-trixie"

HEAD = f"""\
import pytest
from pytest_imagebuild import Image
base = Image.from_registry("{BASE}")
"""


def outcome(project: pytest.Pytester, definition: str, *flags: str) -> pytest.RunResult:
    """Run a test whose image `definition` names `image`; the definition begins on line 4 of `test_it.py`."""
    project.makepyfile(test_it=f"{HEAD}{definition}\n\n@pytest.mark.image(image)\ndef test_it():\n    pass\n")
    return project.runpytest("--tb=short", *flags, timeout=120)


def said(result: pytest.RunResult) -> str:
    return result.stdout.str() + result.stderr.str()


def test_an_unknown_base_says_what_was_asked_and_what_to_do(project: pytest.Pytester, nonce: str) -> None:
    registry = os.environ["IMAGEBUILD_TEST_REGISTRY"]
    reference = f"{registry}/library/nothing-{nonce}:1"
    result = outcome(project, f'image = Image.from_registry("{reference}")')
    result.assert_outcomes(errors=1)
    text = said(result)
    assert re.search(
        f"^the base image {re.escape(reference)} was asked of {re.escape(registry)}, which answered: .*"
        rf"(not found|unknown).*\. Check the spelling and the tag, or log in with `docker login( {registry})?`\.$",
        text,
        re.MULTILINE,
    ), text
    assert "Traceback" not in text


def test_a_failing_command_shows_the_command_the_line_the_end_of_its_output_and_the_exit_code(
    project: pytest.Pytester, engine: EngineUnderTest, nonce: str
) -> None:
    command = f"for n in $(seq 200); do echo {nonce} line $n; done; echo to stderr >&2; exit 7"
    result = outcome(project, f'image = (base\n    .run_commands("true")\n    .run_commands("{command}"))')
    result.assert_outcomes(errors=1)
    text = said(result)
    error = text[text.index(f"{project.path}/test_it.py:6: run_commands(") :].splitlines()
    assert error[0].endswith(" failed")
    assert error[1:4] == [f"  command: {command}", "  exit code: 7", "  end of its output:"]
    assert error[4:44] == [*(f"    {nonce} line {n}" for n in range(162, 201)), "    to stderr"]
    assert f"{nonce} line 100" not in text
    assert "Traceback" not in text
    assert engine.layers(nonce) == {}
    assert engine.remains(nonce) == []


def test_every_test_of_a_failed_image_gets_its_own_error_and_the_others_run(
    project: pytest.Pytester, nonce: str
) -> None:
    project.makepyfile(
        f"""
        import pytest
        from pytest_imagebuild import Image
        bad = Image.from_registry("{BASE}").run_commands("echo {nonce}; false")

        @pytest.mark.image(bad)
        @pytest.mark.parametrize("n", [1, 2])
        def test_bad(n):
            pass

        @pytest.mark.image(Image.from_registry("{BASE}"))
        def test_good():
            pass

        def test_host():
            pass
        """
    )
    result = project.runpytest(timeout=120)
    result.assert_outcomes(errors=2, passed=2)


@pytest.mark.parametrize(
    ("definition", "sentence"),
    [
        pytest.param(
            'image = base.add_local_file("nowhere.txt", "/x", copy=True)',
            r"test_it\.py:4: add_local_file: local file nowhere\.txt does not exist",
            id="a missing local file",
        ),
        pytest.param(
            'image = base.add_local_file("nowhere.txt", "/x")',
            r"test_it\.py:4: add_local_file: local file nowhere\.txt does not exist",
            id="a missing local file that is put in place at start",
        ),
        pytest.param(
            'image = base.add_local_dir("nowhere", "/x", copy=True)',
            r"test_it\.py:4: add_local_dir: local folder nowhere does not exist",
            id="a missing local folder",
        ),
        pytest.param(
            'image = base.add_local_python_source("no_such_module", copy=True)',
            r"test_it\.py:4: add_local_python_source: module 'no_such_module' has no spec - might not be installed\?",
            id="a module that cannot be imported",
        ),
        pytest.param(
            'image = base.add_local_python_source("no_such_module")',
            r"test_it\.py:4: add_local_python_source: module 'no_such_module' has no spec - might not be installed\?",
            id="a module that cannot be imported, put in place at start",
        ),
        pytest.param(
            'image = base.add_local_file("test_it.py", "/x").run_commands("true")',
            r"test_it\.py:4: .*An image tried to run a build step after using `image\.add_local_\*`",
            id="a build step after a lazy local file",
        ),
        pytest.param(
            'image = base.uv_pip_install(requirements=["nowhere.txt"])',
            r"test_it\.py:4: uv_pip_install: requirements file .*nowhere\.txt does not exist",
            id="a missing requirements file",
        ),
        pytest.param(
            'image = Image.debian_slim("3.9")',
            r"test_it\.py:4: .*Unsupported Python version: '3\.9'",
            id="a Python that the builder version does not offer",
        ),
    ],
)
@on_one_engine()
def test_a_wrong_definition_is_an_error_at_its_line(project: pytest.Pytester, definition: str, sentence: str) -> None:
    result = outcome(project, definition)
    result.assert_outcomes(errors=1)
    assert re.search(sentence, said(result)), said(result)
    assert "Traceback" not in said(result)


@on_one_engine()
def test_an_unknown_argument_of_the_marker_is_a_usage_error_at_the_test(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=f"{HEAD}\n@pytest.mark.image(base, cpus=2)\ndef test_it():\n    pass\n")
    result = project.runpytest(timeout=60)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert re.search(r"test_it\.py:\d+: @pytest\.mark\.image of test_it: unknown argument 'cpus'", said(result))
    assert "Traceback" not in said(result)


def test_an_engine_that_is_down_is_one_line(
    project: pytest.Pytester, engine: EngineUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in engine.outage.environment.items():
        monkeypatch.setenv(name, value)
    result = outcome(project, "image = base")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: {engine.outage.sentence}" in said(result)
    assert "Traceback" not in said(result)
    assert len(said(result).splitlines()) < 20


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("version = 1\n[[base]\n", "imagebuild.lock cannot be read: ", id="not TOML"),
        pytest.param('version = 1\nbase = "x"\n', "base is not an array of tables", id="the wrong shape"),
        pytest.param("version = 2\n", "imagebuild.lock has version 2; this pytest-imagebuild reads", id="a newer one"),
    ],
)
@on_one_engine()
def test_a_lockfile_that_cannot_be_used_stops_the_run_and_stays_as_it_is(
    project: pytest.Pytester, text: str, sentence: str
) -> None:
    lockfile = project.path / "imagebuild.lock"
    lockfile.write_text(text)
    result = outcome(project, "image = base")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert sentence in said(result)
    assert "Traceback" not in said(result)
    assert lockfile.read_text() == text


def test_a_locked_run_without_a_record_names_the_call_and_what_to_do(project: pytest.Pytester) -> None:
    result = outcome(project, "image = base", "--image-locked")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert re.search(
        rf'imagebuild\.lock has no record for from_registry\("{re.escape(BASE)}"\) at .*test_it\.py:3 on linux/\w+, '
        r"and --image-locked forbids to resolve it\. Run once without --image-locked \(or run `imagebuild lock`\) and "
        r"commit the lockfile\.",
        said(result),
    ), said(result)
    assert "Traceback" not in said(result)
    assert not (project.path / "imagebuild.lock").exists()


@on_one_engine()
def test_an_unknown_builder_version_names_the_known_ones(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODAL_IMAGE_BUILDER_VERSION", "1999.01")
    result = outcome(project, "image = base")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Unknown image builder version '1999.01'. Known versions: 2025.06, 2026.10" in said(result)
