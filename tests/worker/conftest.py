"""Fixtures of the ring that runs a live worker without a container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live_worker import Makes


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Makes]:
    """Make a live worker: `worker("def test_it(): pass").start().run("test_it.py::test_it")`."""
    makes = Makes(tmp_path)
    yield makes
    makes.end()
