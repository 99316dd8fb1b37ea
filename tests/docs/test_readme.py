"""The README holds: the projects in its sections run as it says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .readme import ENGINES, Block, Command, Section, Shell, sections

TIMEOUT = 300
REPOSITORY = "python:"
RUNNING = [
    pytest.param(name, found.on(name), id=f"{found.title}-{name}")
    for name in ENGINES
    for found in sections()
    if found.runs()
]


@pytest.mark.parametrize(("engine", "example"), RUNNING, indirect=["engine"])
def test_a_section_runs_as_it_says(example: Section, tmp_path: Path, shell: Shell) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    for block in _on_a_base_of_their_own(example):
        if block.file:
            (tmp_path / block.file).write_text(block.text)
            continue
        for command in block.commands():
            _check(command, shell, tmp_path)


def test_every_block_is_run() -> None:
    for found in sections():
        files = [block.file for block in found.blocks if block.file]
        rest = [block.info for block in found.blocks if not block.file and block.info[0] != "console"]
        assert rest == ([("sh",), ("sh",)] if found.title == "Two commands" else [])
        assert found.runs() or not files, f"nothing runs {files} of {found.title!r}"


def _on_a_base_of_their_own(example: Section) -> list[Block]:
    """Let a section that rebuilds by force do that to a base which no other test stands on."""
    if not any("--force-build" in block.text for block in example.blocks):
        return example.blocks
    own = f"{os.environ['IMAGEBUILD_TEST_REGISTRY']}/library/{REPOSITORY}"
    return [Block(info=block.info, text=block.text.replace(REPOSITORY, own)) for block in example.blocks]


def _check(command: Command, shell: Shell, folder: Path) -> None:
    done = shell(command.line, folder, timeout=TIMEOUT)
    assert done.returncode == command.exit_code, f"$ {command.line}\n{done.stdout}"
    missing = command.missing_from(done.stdout)
    assert missing is None, f"$ {command.line}\nshould print: {missing}\nprinted:\n{done.stdout}"
