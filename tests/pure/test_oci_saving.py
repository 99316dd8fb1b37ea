"""The file of an archive: whole or not there."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from pytest_imagebuild.engines.oci import saving


@pytest.fixture(params=["unnamed", "named"])
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where to save, on a file system that has unnamed files, and on one that has none."""
    if request.param == "named":
        system = os.open

        def refusing(path: Path, flags: int, mode: int = 0o777) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, "Operation not supported")
            return system(path, flags, mode)

        monkeypatch.setattr(os, "open", refusing)
    return tmp_path / "image.tar"


def test_it_takes_the_place_of_what_was_there_at_the_end(target: Path) -> None:
    target.write_bytes(b"old")
    with saving._replacing(target) as file:
        file.write(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


def test_a_failure_leaves_what_was_there(target: Path) -> None:
    target.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), saving._replacing(target) as file:  # noqa: PT012
        file.write(b"new")
        raise ZeroDivisionError
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


def test_it_has_the_mode_of_any_new_file_of_the_user(target: Path) -> None:
    plain = target.with_name("plain")
    plain.touch()
    with saving._replacing(target):
        pass
    assert target.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("target", ["unnamed"], indirect=True)
def test_nothing_is_left_of_a_process_that_is_killed(target: Path) -> None:
    child = os.fork()
    if child == 0:
        with saving._replacing(target) as file:
            file.write(b"new")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert list(target.parent.iterdir()) == []
