"""A system package: `apt_install` puts git into the image, and the tests call it.

The fixtures, `tmp_path` and `monkeypatch` among them, run in the container, beside git.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_imagebuild import Image

with_git = Image.debian_slim("3.13").apt_install("git").env({"GIT_AUTHOR_NAME": "Ada", "GIT_COMMITTER_NAME": "Ada"})

pytestmark = pytest.mark.image(with_git, env={"EMAIL": "ada@example.org"})


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    return tmp_path


def test_a_commit_is_in_the_history(repository: Path) -> None:
    (repository / "notes.txt").write_text("first\n")
    git("add", "notes.txt")
    git("commit", "--quiet", "--message", "Add notes")
    assert git("log", "--format=%an <%ae>: %s") == "Ada <ada@example.org>: Add notes"
