"""What every engine that runs containers promises of their limits, where this machine can hold them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from pytest_imagebuild.engines.protocol import Container, SessionSpec

from .conftest import Bench, Sessions, printed

MIB = 1024 * 1024
SECONDS = 30
EAT = "held = [bytearray(10 * 1024 * 1024) for _ in range(40)]\nprint('ate all', flush=True)"

Start = Callable[..., Container]


@pytest.fixture
def start(box: Bench, sessions: Sessions) -> Start:
    """Start sessions of the base that run some Python."""

    def start(source: str, *, memory: int | None = None, cpu: float | None = None) -> Container:
        limits = {name for name, value in (("memory", memory), ("cpu", cpu)) if value is not None}
        unenforced = box.engine.capabilities().unenforced
        if found := limits & set(unenforced):
            pytest.skip(unenforced[found.pop()])
        return sessions(SessionSpec(command=("python3", "-c", source), memory=memory, cpu=cpu))

    return start


def test_a_container_that_needs_more_memory_than_it_has_is_killed_and_the_engine_says_why(start: Start) -> None:
    container = start(EAT, memory=100 * MIB)
    assert printed(container) == ""
    status = container.wait(SECONDS)
    assert (status.code, status.out_of_memory) == (128 + signal.SIGKILL, True)


def test_memory_is_the_limit_of_all_processes_together(start: Start) -> None:
    each = EAT.replace("range(40)", "range(7)").replace("print", "time.sleep(1); print")
    source = f"import os, time\nfor _ in range(3): os.fork()\n{each}"
    container = start(source, memory=200 * MIB)
    assert printed(container).count("ate all") < 8


def test_a_container_within_its_memory_ends_as_it_likes(start: Start) -> None:
    container = start(EAT, memory=600 * MIB)
    assert printed(container) == "ate all\n"
    status = container.wait(SECONDS)
    assert (status.code, status.out_of_memory) == (0, False)


def test_a_container_that_is_killed_otherwise_is_not_out_of_memory(start: Start) -> None:
    container = start("import os, sys; os.kill(0, 9) if os.getpid() != 1 else sys.exit(137)", memory=100 * MIB)
    assert printed(container) == ""
    status = container.wait(SECONDS)
    assert (status.code, status.out_of_memory) == (137, False)


def test_a_container_has_the_share_of_the_processors_that_was_asked_for(start: Start) -> None:
    source = "import time\nb = time.monotonic()\nwhile time.process_time() < 0.5: pass\nprint(time.monotonic() - b)"
    assert float(printed(start(source, cpu=0.2))) > 1.2


def test_more_cores_than_there_are_are_as_good_as_no_limit(start: Start) -> None:
    began = time.monotonic()
    assert printed(start("print('ran')", cpu=1000.0)) == "ran\n"
    assert time.monotonic() - began < SECONDS
