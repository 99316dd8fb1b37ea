"""Images out of Dockerfiles, as a user meets them."""

from __future__ import annotations

import pytest
from engines import EngineUnderTest

TIMEOUT = 240
BASE = "python:3.13-slim-trixie"

DOCKERFILE = f"""\
# A project with two stages.
ARG BASE={BASE}
FROM $BASE AS build
COPY src /src
RUN mkdir /out && tr a-z A-Z < /src/words.txt > /out/words.txt

FROM $BASE
ARG GREETING=hello
ENV GREETING=$GREETING
COPY --from=build /out /data/
RUN echo "$STEP" | sha256sum > /data/step
WORKDIR /data
"""

INSIDE = """
import hashlib, os, pathlib
import pytest
from pytest_imagebuild import Image

image = Image.from_dockerfile("project/Dockerfile", context_dir="project", build_args={"GREETING": "hi"}, env=ENV)
image = image.dockerfile_commands("COPY src/more.txt /data/", "ENV MORE=1", context_dir="project")

@pytest.mark.image(image)
def test_inside():
    assert os.environ["GREETING"] == "hi"
    assert os.environ["MORE"] == "1"
    assert "STEP" not in os.environ
    assert pathlib.Path("/data/words.txt").read_text() == "WORDS\\n"
    assert pathlib.Path("/data/more.txt").read_text() == "more\\n"
"""


@pytest.fixture
def project(pytester: pytest.Pytester, engine: EngineUnderTest) -> pytest.Pytester:
    source = pytester.mkdir("project") / "src"
    source.mkdir()
    (source / "words.txt").write_text("words\n")
    (source / "more.txt").write_text("more\n")
    (source.parent / "Dockerfile").write_text(DOCKERFILE)
    return pytester


def test_a_project_with_a_dockerfile_runs_and_stays_built(project: pytest.Pytester) -> None:
    project.makepyfile(INSIDE.replace(", env=ENV", ""))
    result = project.runpytest_subprocess(timeout=TIMEOUT)
    result.assert_outcomes(passed=1)
    locked = (project.path / "imagebuild.lock").read_text()
    assert f'reference = "{BASE}"' in locked
    again = project.runpytest_subprocess("--image-locked", timeout=TIMEOUT)
    again.assert_outcomes(passed=1)
    again.stdout.fnmatch_lines(["imagebuild (*): layers: reused *, built 0*"])


def test_a_failing_run_is_shown_with_both_lines(project: pytest.Pytester) -> None:
    file = project.path / "project" / "Dockerfile"
    file.write_text(f"FROM {BASE}\n\nRUN echo before; \\\n  exit 7\n")
    project.makepyfile(INSIDE.replace(", env=ENV", ""))
    result = project.runpytest_subprocess(timeout=TIMEOUT)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            '*.py:5: from_dockerfile("project/Dockerfile"): its other lines, project/Dockerfile:3 failed',
            "*  command: RUN echo before;   exit 7",
            "*  exit code: 7",
            "*    before",
        ]
    )


def test_a_line_that_is_wrong_is_shown_with_both_lines(project: pytest.Pytester) -> None:
    (project.path / "project" / "Dockerfile").write_text(f"FROM {BASE}\nCOPY nothing /\n")
    project.makepyfile(INSIDE.replace(", env=ENV", ""))
    result = project.runpytest_subprocess(timeout=TIMEOUT)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ['*.py:5: from_dockerfile("project/Dockerfile"): project/Dockerfile:2: COPY: nothing does not exist in the *']
    )
