"""The two commands at the top of the README, in a fresh checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from .readme import ENGINES, Shell, section

EXAMPLES, TESTS = (block.text for block in section("Two commands").blocks)
TIMEOUT = 900
NO_DOCKER = {"DOCKER_HOST": "unix:///nonexistent/docker.sock", "IMAGEBUILD_ENGINE": "auto"}


def test_the_first_runs_the_examples_and_the_second_time_builds_nothing(
    checkout: Path, shell: Shell, engine: str
) -> None:
    # Where no Docker answers, the other engine is found without being named.
    variables = NO_DOCKER if engine == "embedded" else {}
    first = shell(EXAMPLES, checkout, timeout=TIMEOUT, **variables)
    assert first.returncode == 0, first.stdout
    second = shell(EXAMPLES, checkout, timeout=TIMEOUT, **variables)
    assert second.returncode == 0, second.stdout
    (summary,) = (
        line for line in second.stdout.splitlines() if line.startswith(f"imagebuild ({engine}): layers: reused ")
    )
    assert summary.endswith(", built 0")


# All of its environments would run this test again, so one that is quick stands for them; `.ci/run` runs them all.
@pytest.mark.parametrize("engine", list(ENGINES)[:1], indirect=True)
def test_the_second_runs_tox(checkout: Path, shell: Shell) -> None:
    ran = shell(TESTS, checkout, timeout=TIMEOUT, TOXENV="lint", TOX_OVERRIDE="testenv:lint.commands=ruff --version")
    assert ran.returncode == 0, ran.stdout
    assert "lint: OK" in ran.stdout


def test_ci_runs_both() -> None:
    script = (Path(__file__).parents[2] / ".ci" / "run").read_text()
    assert all(f"command_block {number}" in script for number in (1, 2))
