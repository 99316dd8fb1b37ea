"""Lock files: `engines/held.py`, beside the `filelock` of which it takes the place."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import filelock
import pytest

from pytest_imagebuild.engines.held import HeldFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "one.lock"


def is_free(path: Path) -> bool:
    lock = HeldFile(path)
    try:
        return lock.acquire(wait=False)
    finally:
        lock.release()


def test_a_lock_is_held_until_it_is_released_also_in_one_process(path: Path) -> None:
    held = HeldFile(path)
    assert held.acquire()
    assert not is_free(path)
    held.release()
    held.release()
    assert is_free(path)


def test_to_acquire_what_is_held_changes_nothing(path: Path) -> None:
    held = HeldFile(path)
    assert held.acquire(wait=False)
    with held:
        assert not is_free(path)
    assert is_free(path)


def test_a_lock_that_nobody_knows_any_more_is_free(path: Path) -> None:
    held = HeldFile(path)
    assert held.acquire()
    del held
    assert is_free(path)


def test_it_and_filelock_exclude_each_other(path: Path) -> None:
    with filelock.FileLock(path):
        assert not is_free(path)
    with HeldFile(path), pytest.raises(filelock.Timeout):
        filelock.FileLock(path).acquire(timeout=0)


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_one_on_the_next(path: Path) -> None:
    first = HeldFile(path)
    assert first.acquire()
    path.unlink()
    second = HeldFile(path)
    assert second.acquire(wait=False)
    assert path.exists()
    first.release()
    assert not is_free(path)
    second.release()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_copy_of_the_process_holds_nothing_and_frees_nothing(path: Path) -> None:
    held = HeldFile(path)
    assert held.acquire()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - it is the copy
        held.release()
        os.write(write, b"1" if is_free(path) else b"0")
        signal.pause()
    try:
        assert os.read(read, 1) == b"0"
        held.release()
        assert is_free(path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)
