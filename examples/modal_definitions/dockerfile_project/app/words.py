"""The program of a project that has a Dockerfile."""

from __future__ import annotations

import os
from pathlib import Path


def words() -> list[str]:
    """Return the words that the image brings."""
    return Path(os.environ["WORDS"]).read_text().split()
