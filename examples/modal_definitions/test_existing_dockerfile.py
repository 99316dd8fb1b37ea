from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from existing_dockerfile import image

pytestmark = pytest.mark.image(image)


def test_the_program_finds_its_words() -> None:
    script = "from app.words import words; print(words())"
    done = subprocess.run(["python3", "-c", script], cwd="/srv", check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "['apple', 'pear']\n"


def test_what_is_ignored_is_not_there() -> None:
    assert sorted(path.name for path in Path("/srv/app").iterdir()) == ["__pycache__", "words.py"]
    assert Path("/srv/built.txt").exists()
