"""Processes that build the same at the same time."""

from __future__ import annotations

import contextlib
from collections import Counter

import pytest
from bases import OwnBase
from engines import EngineUnderTest
from running import Running

TIMEOUT = 240

PROJECT = """
import os
import pytest
from pytest_imagebuild import Image

shared = Image.from_registry("{base}").run_commands("sleep 1; : SHARED {nonce}")
left = shared.env({{"SIDE": "left {nonce}"}})
right = shared.env({{"SIDE": "right {nonce}"}})

@pytest.mark.parametrize("number", range(2))
@pytest.mark.image(left)
def test_left(number):
    assert os.environ["SIDE"] == "left {nonce}"

@pytest.mark.parametrize("number", range(2))
@pytest.mark.image(right)
def test_right(number):
    assert os.environ["SIDE"] == "right {nonce}"
"""


def test_two_processes_and_four_xdist_workers_at_once_build_each_layer_exactly_once(
    project: pytest.Pytester, engine: EngineUnderTest, base: OwnBase, nonce: str
) -> None:
    with engine.events() as events:
        project.makepyfile(PROJECT.format(base=base.reference, nonce=nonce))
        with contextlib.ExitStack() as stack:
            runs = [stack.enter_context(Running(project.path, *flags)) for flags in ([], [], ["-n", "4"])]
            codes = [run.wait(TIMEOUT) for run in runs]
            outputs = [run.output for run in runs]
        commits = events.commits()
        made = Counter(layer.name for layer in events.made())

    assert codes == [0, 0, 0], "\n".join(outputs)
    assert all("4 passed" in output for output in outputs)
    assert sorted(made.values()) == [1] * 6, made
    assert Counter(_short(step) for step in commits) == {
        "base": 1,
        "SHARED": 1,
        "left": 1,
        "right": 1,
        "runtime": 2,
    }


def _short(step: str) -> str:
    words = {"from_registry": "base", "SHARED": "SHARED", "left": "left", "right": "right", "the runtime": "runtime"}
    return next(short for word, short in words.items() if word in step)
