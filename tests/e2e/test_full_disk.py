"""A disk that is full: the message says which, what the user has stays, and with room the next run is green."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bases import OwnBase
from engines import EngineUnderTest, only, open_engine
from inner import Inner
from small_disk import MEBIBYTE, SmallDisk

TESTS = """
import pytest
from pytest_imagebuild import Image

@pytest.mark.image(Image.from_registry("{reference}"))
@pytest.mark.parametrize("number", range(2))
def test_inside(number):
    pass
"""


@pytest.fixture
def project_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Return the disk of the project of an `Inner` in `tmp_path`."""
    disk = SmallDisk(tmp_path / "project", mebibytes=4)
    yield disk
    disk.unmount()


@pytest.fixture
def cache_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "cache", mebibytes=900)
    yield disk
    disk.unmount()


def test_a_lockfile_on_a_full_disk_stays_as_it_was(
    tmp_path: Path, project_disk: SmallDisk, engine: EngineUnderTest, base: OwnBase, nonce: str
) -> None:
    project = Inner(tmp_path, engine)
    project.write({"pytest.ini": "[pytest]\n", "test_it.py": TESTS.format(reference=base.reference)})
    lockfile = project.folder / "imagebuild.lock"
    lockfile.write_text("version = 1\n")

    with project_disk.filled():
        full = project.run("-p", "no:cacheprovider")

        assert full.code == pytest.ExitCode.USAGE_ERROR, full.text
        assert f"{lockfile} cannot be written: [Errno 28] No space left on device" in full.text
        assert "Make room there." in full.text
        assert lockfile.read_text() == "version = 1\n"
        assert sorted(file.name for file in project.folder.iterdir()) == [
            "filler",
            "imagebuild.lock",
            "pytest.ini",
            "test_it.py",
        ]
        assert engine.remains(nonce) == []
    assert project.run().code == 0


@only("embedded")
def test_a_project_for_which_a_container_has_no_room_is_an_error_of_its_tests(
    tmp_path: Path,
    engine: EngineUnderTest,
    cache_disk: SmallDisk,
) -> None:
    small = open_engine("embedded", cache_disk.folder)
    project = Inner(tmp_path, small)
    project.write({"pytest.ini": "[pytest]\n", "test_it.py": TESTS.format(reference="python:3.13-slim-trixie")})
    assert project.run().code == 0
    (project.folder / "large.bin").write_bytes(bytes(8 * MEBIBYTE))

    with cache_disk.filled(but=4 * MEBIBYTE):
        full = project.run("-p", "no:cacheprovider")
        # Its worker is sent the project while pytest collects: what finds no room then may be something else.
        early = project.run()

    assert "No space left on device" in early.text, early.text
    assert early.code in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.USAGE_ERROR)
    assert "INTERNALERROR" not in early.text
    assert "Traceback" not in early.text
    assert full.code == pytest.ExitCode.TESTS_FAILED, full.text
    problem = (
        "The files of the project cannot be put in place in the container: [Errno 28] No space left on device: "
        f"'{project.folder}/large.bin'. The engine's disk is full. Free some: `imagebuild prune` "
    )
    assert full.text.count(problem) == 2, full.text
    assert "2 errors" in full.text
    assert small.containers() == []
    assert project.run().code == 0
