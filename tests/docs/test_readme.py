"""The README holds: its projects run as it says, and its tables name what there is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from readme import Block, Command, Section, section, sections

TIMEOUT = 600
REPOSITORY = "python:"
RUNNING = [found for found in sections() if found.runs()]


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("imagebuild-cache")


@pytest.fixture
def environment(cache_dir: Path) -> dict[str, str]:
    """Return the variables for a reader's shell: no switch of ours is set, and this Python's commands come first."""
    if "DOCKER_HOST" not in os.environ:
        pytest.fail('DOCKER_HOST is not set: start the test ground with `eval "$(tests/ground/up)"`', pytrace=False)
    ours = ("MODAL_", "IMAGEBUILD_", "PYTEST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours) and name != "CI"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return {**kept, "PATH": path, "IMAGEBUILD_CACHE_DIR": str(cache_dir), "COLUMNS": "120"}


@pytest.mark.parametrize("example", RUNNING, ids=[found.title for found in RUNNING])
def test_a_section_runs_as_it_says(example: Section, tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    for block in _on_a_base_of_their_own(example):
        if block.file:
            (tmp_path / block.file).write_text(block.text)
        else:
            for command in block.commands():
                _check(command, tmp_path, environment)


def test_every_block_is_run() -> None:
    for found in sections():
        files = [block.file for block in found.blocks if block.file]
        rest = [block for block in found.blocks if not block.file and block.info[0] != "console"]
        if found.title == "Two commands":
            assert [block.info for block in rest] == [("sh",), ("sh",)]
        else:
            assert rest == []
        assert found.runs() or not files, f"nothing runs {files} of {found.title!r}"


def _on_a_base_of_their_own(example: Section) -> list[Block]:
    """Let a section that rebuilds by force do that to a base which no other test stands on."""
    if not any("--force-build" in block.text for block in example.blocks):
        return example.blocks
    own = f"{os.environ['IMAGEBUILD_TEST_REGISTRY']}/library/{REPOSITORY}"
    return [Block(info=block.info, text=block.text.replace(REPOSITORY, own)) for block in example.blocks]


def _check(command: Command, folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-euc", command.line],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == command.exit_code, f"$ {command.line}\n{done.stdout}"
    missing = command.missing_from(done.stdout)
    assert missing is None, f"$ {command.line}\nshould print: {missing}\nprinted:\n{done.stdout}"
