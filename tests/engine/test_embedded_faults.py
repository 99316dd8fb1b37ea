"""When the disk is full under the embedded engine: nothing wrong is kept, nothing is left, and the next try is good."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_imagebuild.engines.embedded import EmbeddedEngine
from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.protocol import SessionSpec
from pytest_imagebuild.engines.work import CommandFailed, Work
from pytest_imagebuild.errors import ImageBuildError

from .conftest import BASE, RUN, new_key, plain_labels

MEBIBYTE = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a cache folder on a small disk of its own, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=320m", "none", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def engine(disk: Path) -> Iterator[EmbeddedEngine]:
    engine = EmbeddedEngine(run=RUN, cache_dir=disk)
    yield engine
    engine.close()


def import_base(engine: EmbeddedEngine, key: str) -> BuiltLayer:
    return engine.import_base(BASE, engine.pin_base(BASE, print), plain_labels(key), print)


def fill(disk: Path, *, but: int) -> Path:
    """Leave `but` bytes on the disk."""
    filler = disk / "filler"
    free = os.statvfs(disk)
    size = free.f_bavail * free.f_frsize - but
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    return filler


def kept(disk: Path) -> set[str]:
    """Return what there is of layers, and what containers wrote."""
    folders = ("trees", "records", "keys/cache", "scratch")
    found = {path for name in folders for path in (disk / "embedded" / name).glob("*") if not path.is_symlink()}
    rooms = set((disk / "embedded" / "scratch").glob("*/[0-9]*"))
    return {str(path.relative_to(disk)) for path in (found | rooms) if path.parent.name != "scratch"}


@pytest.mark.parametrize("left", [0, 1, 20, 60, 120], ids=lambda left: f"{left}-MiB-left")
def test_a_disk_that_is_full_while_a_base_image_comes_leaves_none(
    engine: EmbeddedEngine, disk: Path, left: int
) -> None:
    key = new_key()
    engine.capabilities()
    before = kept(disk)
    filler = fill(disk, but=left * MEBIBYTE)
    with pytest.raises(ImageBuildError, match="No space left on device"):
        import_base(engine, key)
    assert engine.find(key) is None
    assert kept(disk) == before
    filler.unlink()
    layer = import_base(engine, key)
    assert engine.run(layer, Work(commands=("python3 -c 'print(40 + 2)'",)), print) == b"42\n"


def write_much(engine: EmbeddedEngine, base: BuiltLayer, key: str) -> BuiltLayer:
    work = Work(
        commands=("mkdir /data; for n in 1 2 3 4 5 6 7 8; do head -c 4000000 /dev/zero > /data/$n || exit; done",)
    )
    return engine.build(base, work, plain_labels(key), print)


def put_much(engine: EmbeddedEngine, base: BuiltLayer, key: str) -> BuiltLayer:
    files = tuple(FileEntry(path=f"/data/{number}", mode=0o644, data=bytes(4_000_000)) for number in range(1, 9))
    return engine.build(base, Work(files=files), plain_labels(key), print)


@pytest.mark.parametrize("write", [write_much, put_much])
@pytest.mark.parametrize("left", [0, 3, 20], ids=lambda left: f"{left}-MiB-left")
def test_a_disk_that_is_full_during_a_step_leaves_no_layer(
    engine: EmbeddedEngine,
    disk: Path,
    left: int,
    write: Callable[[EmbeddedEngine, BuiltLayer, str], BuiltLayer],
) -> None:
    base, key = import_base(engine, new_key()), new_key()
    before = kept(disk)
    filler = fill(disk, but=left * MEBIBYTE)
    with pytest.raises((ImageBuildError, CommandFailed)) as caught:
        write(engine, base, key)
    assert "No space left on device" in str(getattr(caught.value, "output", "")) + str(caught.value)
    assert engine.find(key) is None
    assert kept(disk) == before
    filler.unlink()
    layer = write(engine, base, key)
    assert engine.run(layer, Work(commands=("cat /data/* | wc -c",)), print) == b"32000000\n"


def test_a_session_on_a_full_disk_says_so_and_leaves_nothing(engine: EmbeddedEngine, disk: Path) -> None:
    base = import_base(engine, new_key())
    before = kept(disk)
    filler = fill(disk, but=0)
    message = r"the embedded engine could not start a container in .*: No space left on device.*`imagebuild prune`"
    with pytest.raises(ImageBuildError, match=message):
        engine.start(base, SessionSpec(command=("true",)))
    assert kept(disk) == before
    filler.unlink()
    container = engine.start(base, SessionSpec(command=("echo", "up")))
    assert container.channel.receive(30) == b"up\n"
    container.stop()
    assert kept(disk) == before
