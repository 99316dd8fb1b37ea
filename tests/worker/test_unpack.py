"""Files that come and go before pytest begins, and the project that is put into an image."""

from __future__ import annotations

import io
import shutil
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_imagebuild.worker.unpack import remove, unpack_archive


@pytest.fixture
def memory() -> Iterator[Path]:
    """Return a folder on a mount of its own."""
    folder = Path("/dev/shm") / uuid.uuid4().hex
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def archive(path: Path, *files: Path) -> str:
    with tarfile.open(path, "w") as tar:
        for file in files:
            member = tarfile.TarInfo(str(file).lstrip("/"))
            member.size = 4
            tar.addfile(member, io.BytesIO(b"text"))
    return str(path)


def test_an_archive_goes_where_its_paths_say(tmp_path: Path) -> None:
    files = [tmp_path / "project/one.py", tmp_path / "project/deep/er/two.py"]
    assert unpack_archive(archive(tmp_path / "tar", *files)) == 0
    assert [file.read_text() for file in files] == ["text"] * 2


def test_one_that_goes_into_a_mount_is_told(tmp_path: Path, memory: Path) -> None:
    assert Path("/dev/shm").is_mount()
    assert unpack_archive(archive(tmp_path / "tar", tmp_path / "one.py", memory / "deep/two.py")) == 1


def test_files_go_with_the_folders_that_are_empty_then(tmp_path: Path) -> None:
    for name in ("a/b/c.py", "a/b/d/e.py", "a/stays.py", "f/g.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("nowhere")
    gone = ("a/b/c.py", "a/b/d/e.py", "f/g.py", "link", "a/never.py", "f/g.py/below", "none/never.py")
    remove(str(tmp_path / name) for name in gone)
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["a", "a/stays.py"]
