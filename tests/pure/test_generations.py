"""Of what has been replaced, that goes which nobody can still want."""

from __future__ import annotations

import time

import pytest

from pytest_imagebuild.engines.generations import may_go, replaced
from pytest_imagebuild.engines.layers import BuiltLayer, LayerLabels

HOUR = 3600


@pytest.mark.parametrize(
    ("ago", "claimed_ago", "goes"),
    [
        (HOUR - 60, None, False),
        (HOUR + 60, None, True),
        (HOUR + 60, HOUR + 120, False),
        (HOUR + 60, 50 * HOUR, False),
        (HOUR + 60, HOUR + 30, True),
        (HOUR + 60, 0, True),
        (-HOUR, 0, False),
    ],
    ids=["young", "old", "claimed before", "claimed long before", "claimed after", "claimed now", "from the future"],
)
def test_what_was_replaced_goes_after_an_hour_and_after_the_runs_that_began_before(
    ago: float, claimed_ago: float | None, goes: bool
) -> None:
    now = time.time()
    claimed = {} if claimed_ago is None else {"key": now - claimed_ago}
    assert may_go("key", now - ago, {**claimed, "another": now - 50 * HOUR}) is goes


def test_layers_on_a_replaced_one_go_the_upper_ones_first_but_those_that_are_claimed() -> None:
    now = time.time()
    base = _layer("base", None, made=now - 2 * HOUR)
    lower = _layer("lower", base, on="before", made=now - 9 * HOUR)
    upper = _layer("upper", lower, made=now - 9 * HOUR)
    sound = _layer("sound", base, made=now)
    layers = [base, lower, upper, sound]
    assert replaced(layers) == [upper, lower]
    assert replaced(layers, {"lower": now - 3 * HOUR}) == [upper]
    assert replaced(layers, {"lower": now - 3 * HOUR, "upper": now - 3 * HOUR}) == []
    assert replaced(layers, {"lower": now - HOUR}) == [upper, lower]


def _layer(key: str, below: BuiltLayer | None, *, made: float, on: str | None = None) -> BuiltLayer:
    labels = LayerLabels(
        key=key,
        parent=below.labels.key if below else "",
        generation=f"generation of {key}",
        run="run",
        inputs={"generation": on or below.labels.generation} if below else {},
    )
    return BuiltLayer(labels=labels, reference=f"id of {key}", size=0, created=made)
