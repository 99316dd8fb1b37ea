"""A short soak. The long one is run by hand: see `soaking.py`."""

from __future__ import annotations

from pathlib import Path

from engines import EngineUnderTest
from soaking import soak


def test_runs_at_random_moments_and_kills_leave_whole_layers_and_nothing_else(
    tmp_path: Path, engine: EngineUnderTest
) -> None:
    soaked = soak(tmp_path, engine, seconds=20, processes=4, seed=6)

    assert soaked.wrong == []
    assert soaked.runs > soaked.green > 0
