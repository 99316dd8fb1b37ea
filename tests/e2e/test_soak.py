"""A short soak. The long one is run by hand: see `soaking.py`."""

from __future__ import annotations

from pathlib import Path

from bases import own_base
from engines import EngineUnderTest, open_engine
from soaking import Soak


def test_runs_at_random_moments_and_kills_leave_whole_layers_and_nothing_else(
    tmp_path: Path, engine: EngineUnderTest, nonce: str
) -> None:
    alone = open_engine(engine.name, tmp_path / "cache")
    with own_base(nonce, alone) as base:
        counts = Soak(alone, tmp_path / "soak", base=base.reference, nonce=nonce, seed=256, changing=1).run(10, 4)

    assert counts.wrong == [], str(counts)
    assert counts.killed.total() > 0
    assert counts.green > 1
