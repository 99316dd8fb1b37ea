"""What every engine that runs containers promises of the limits of a step's work."""

from __future__ import annotations

import time

import pytest

from pytest_imagebuild.engines.work import CommandFailed, Work

from .conftest import Bench, new_key

MIB = 1024 * 1024
EAT = "python3 -c \"held = [bytearray(10 * 1024 * 1024) for _ in range(40)]; print('ate all')\""
SPIN = (
    'python3 -c "import time; b = time.monotonic()\nwhile time.process_time() < 0.5: pass\nprint(time.monotonic() - b)"'
)
SOON = 30
"""Seconds after which something was not killed in time."""


def skip_unless_held(box: Bench, name: str) -> None:
    unenforced = box.engine.capabilities().unenforced
    if name in unenforced:
        pytest.skip(unenforced[name])


def failed(box: Bench, work: Work) -> CommandFailed:
    key = new_key()
    with pytest.raises(CommandFailed) as caught:
        box.engine.build(box.base, work, box.labels(key), box.lines.append)
    assert box.engine.find(key) is None
    return caught.value


def test_work_that_takes_longer_than_its_time_is_killed_and_leaves_no_layer(box: Bench) -> None:
    began = time.monotonic()
    failure = failed(box, Work(commands=("true", "echo begun; sleep 600 & sleep 600"), timeout=2))
    assert time.monotonic() - began < SOON
    assert (failure.index, failure.exit_code) == (1, 137)
    assert (failure.timed_out, failure.out_of_memory) == (True, False)
    assert failure.output == "begun\n"


def test_work_that_keeps_printing_is_killed_as_well(box: Bench) -> None:
    began = time.monotonic()
    failure = failed(box, Work(commands=("while :; do echo again; sleep 0.1; done",), timeout=2))
    assert time.monotonic() - began < SOON
    assert failure.timed_out


def test_work_within_its_time_is_not_disturbed(box: Bench) -> None:
    assert box.run("echo done", timeout=300.0) == "done\n"


def test_work_that_is_killed_otherwise_did_not_run_out_of_anything(box: Bench) -> None:
    failure = failed(box, Work(commands=("exit 137",), timeout=300, memory=200 * MIB))
    assert (failure.exit_code, failure.timed_out, failure.out_of_memory) == (137, False, False)


def test_work_that_needs_more_memory_than_it_has_is_killed_and_the_engine_says_why(box: Bench) -> None:
    skip_unless_held(box, "memory")
    failure = failed(box, Work(commands=(EAT,), memory=100 * MIB))
    assert (failure.exit_code, failure.timed_out, failure.out_of_memory) == (137, False, True)
    assert "ate all" not in failure.output


def test_work_within_its_memory_ends_as_it_likes(box: Bench) -> None:
    skip_unless_held(box, "memory")
    assert box.run(EAT, memory=600 * MIB) == "ate all\n"


def test_work_has_the_share_of_the_processors_that_was_asked_for(box: Bench) -> None:
    skip_unless_held(box, "cpu")
    assert float(box.run(SPIN, cpu=0.2)) > 1.2


def test_the_next_work_has_no_limits(box: Bench) -> None:
    skip_unless_held(box, "memory")
    assert box.run("true", memory=50 * MIB, cpu=0.5, timeout=60.0) == ""
    assert box.run(EAT) == "ate all\n"
