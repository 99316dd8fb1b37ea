"""Leases of GPUs among real processes: who has which, who waits, and what becomes of those of the dead."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_imagebuild.engines.gpus.inventory import Gpu
from pytest_imagebuild.engines.gpus.leases import Leases, lock_folder

TWO = (Gpu(id="GPU-1"), Gpu(id="acme.com/gpu=0"))
HOLDER = """\
import sys
from pathlib import Path
from pytest_imagebuild.engines.gpus.inventory import Gpu
from pytest_imagebuild.engines.gpus.leases import Leases

folder, count, *ids = sys.argv[1:]
lease = Leases(Path(folder)).take([Gpu(id=each) for each in ids], int(count), lambda: print("waits", flush=True))
print(*lease.ids, flush=True)
sys.stdin.read()
"""
"""A process that leases GPUs and keeps them until its input ends."""


def _nobody_waits() -> None:
    pytest.fail("it waited")


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def begin(count: int, *ids: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLDER, str(tmp_path), str(count), *(ids or [gpu.id for gpu in TWO])]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait()


def test_two_processes_never_have_the_same_gpu(start: Start) -> None:
    first, second = start(1), start(1)
    assert {_line(first), _line(second)} == {"GPU-1", "acme.com/gpu=0"}


def test_a_third_waits_says_so_and_gets_what_is_given_back(start: Start) -> None:
    first, second = start(1), start(1)
    had = _line(first)
    _line(second)
    third = start(1)
    assert _line(third) == "waits"
    _end(first)
    assert _line(third) == had


def test_the_gpu_of_a_killed_process_is_free(start: Start, tmp_path: Path) -> None:
    holder = start(2)
    _line(holder)
    holder.kill()
    holder.wait()
    lease = Leases(tmp_path).take(TWO, 2, _nobody_waits)
    assert lease.ids == ("GPU-1", "acme.com/gpu=0")
    lease.release()


def test_who_wants_two_gets_both_although_others_come_and_go(start: Start) -> None:
    first, second = start(1), start(1)
    _line(first)
    _line(second)
    both = start(2)
    assert _line(both) == "waits"
    late = start(1)
    _end(first)
    # It stays behind the one that waits for two, although there would be one for it.
    assert _line(late) == "waits"
    _end(second)
    assert _line(both) == "GPU-1 acme.com/gpu=0"
    _end(both)
    assert _line(late) in {"GPU-1", "acme.com/gpu=0"}


def test_a_process_knows_when_somebody_waits(start: Start, tmp_path: Path) -> None:
    leases = Leases(tmp_path)
    assert leases.wanted() is False
    lease = leases.take(TWO, 2, _nobody_waits)
    assert leases.wanted() is False
    other = start(1)
    assert _line(other) == "waits"
    assert leases.wanted() is True
    lease.release()
    assert _line(other) == "GPU-1"
    assert leases.wanted() is False


def test_before_it_waits_a_process_gives_up_what_lies_idle(tmp_path: Path) -> None:
    leases = Leases(tmp_path)
    idle = leases.take(TWO, 2, _nobody_waits)
    leases.when_short(idle.release)
    lease = leases.take(TWO, 1, _nobody_waits)
    assert lease.ids == ("GPU-1",)
    lease.release()


def test_two_that_each_hold_one_and_want_another_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """Each gives up its own before it waits, as the sessions of two xdist workers do."""
    got: list[tuple[str, ...]] = []

    def worker(leases: Leases, ready: threading.Barrier) -> None:
        held = leases.take(TWO, 1, _nobody_waits)
        leases.when_short(held.release)
        ready.wait()
        both = leases.take(TWO, 2, lambda: None)
        got.append(both.ids)
        both.release()

    ready = threading.Barrier(2)
    workers = [threading.Thread(target=worker, args=(Leases(tmp_path), ready), daemon=True) for _ in range(2)]
    for each in workers:
        each.start()
    for each in workers:
        each.join(60)
    assert got == [("GPU-1", "acme.com/gpu=0")] * 2


def test_many_threads_share_a_gpu_one_at_a_time(tmp_path: Path) -> None:
    inside: list[str] = []
    most: list[int] = []

    def worker() -> None:
        for _ in range(5):
            lease = Leases(tmp_path).take(TWO[:1], 1, lambda: None)
            inside.append("x")
            most.append(len(inside))
            time.sleep(0.001)
            inside.pop()
            lease.release()

    workers = [threading.Thread(target=worker, daemon=True) for _ in range(4)]
    for each in workers:
        each.start()
    for each in workers:
        each.join(60)
    assert most == [1] * 20


def test_a_lease_may_be_given_back_twice(tmp_path: Path) -> None:
    leases = Leases(tmp_path)
    first = leases.take(TWO, 1, _nobody_waits)
    first.release()
    second = leases.take(TWO, 1, _nobody_waits)
    first.release()
    assert second.ids == ("GPU-1",)
    other = leases.take(TWO, 1, _nobody_waits)
    assert other.ids == ("acme.com/gpu=0",)
    second.release()
    other.release()


def test_the_locks_are_of_one_machine_and_can_be_shared_by_users(tmp_path: Path) -> None:
    assert lock_folder(tmp_path, {}) == tmp_path / "gpus" / os.uname().nodename
    assert lock_folder(tmp_path, {"IMAGEBUILD_GPU_LOCKS": "/shared/locks"}) == Path("/shared/locks")
