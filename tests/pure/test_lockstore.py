"""The lockfile on disk: atomic, guarded, and alone in its folder."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import pytest_imagebuild
from pytest_imagebuild.build.lockstore import LockMode, LockStore
from pytest_imagebuild.errors import LockfileError
from pytest_imagebuild.lockfile import BaseRecord, Lockfile


def base(reference: str) -> BaseRecord:
    return BaseRecord(reference=reference, platform="linux/amd64", source="registry", digest="sha256:0")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def store(tmp_path: Path, project: Path) -> LockStore:
    return LockStore(project / "imagebuild.lock", tmp_path / "cache")


def test_no_file_is_an_empty_lockfile_and_reading_makes_none(store: LockStore, project: Path) -> None:
    assert store.read() == Lockfile()
    assert list(project.iterdir()) == []


def test_a_change_is_returned_and_read_back(store: LockStore) -> None:
    changed = store.change(lambda lockfile: lockfile.with_base(base("a")))
    assert changed.bases == (base("a"),)
    assert store.read() == changed


def test_a_change_of_nothing_does_not_touch_the_file(store: LockStore) -> None:
    store.change(lambda lockfile: lockfile.with_base(base("a")))
    before = store.path.stat()
    store.change(lambda lockfile: lockfile.with_base(base("a")))
    after = store.path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_nothing_is_left_beside_the_file(store: LockStore, project: Path) -> None:
    for name in ("a", "b"):
        store.change(lambda lockfile, name=name: lockfile.with_base(base(name)))  # type: ignore[misc]
    assert [path.name for path in project.iterdir()] == ["imagebuild.lock"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(store: LockStore, project: Path) -> None:
    store.change(lambda lockfile: lockfile.with_base(base("a")))
    before = store.path.read_bytes()
    with pytest.raises(UnicodeEncodeError):
        store.change(lambda lockfile: lockfile.with_base(base("not to be encoded: \udcff")))
    assert store.path.read_bytes() == before
    assert [path.name for path in project.iterdir()] == ["imagebuild.lock"]


def test_an_update_that_fails_leaves_the_old_file_and_frees_the_lock(store: LockStore) -> None:
    store.change(lambda lockfile: lockfile.with_base(base("a")))

    def broken(_: Lockfile) -> Lockfile:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        store.change(broken)
    assert store.change(lambda lockfile: lockfile.with_base(base("b"))).bases == (base("a"), base("b"))


def test_the_file_is_replaced_not_rewritten(store: LockStore) -> None:
    store.change(lambda lockfile: lockfile.with_base(base("a")))
    with store.path.open(encoding="utf-8") as reader:
        store.change(lambda lockfile: lockfile.with_base(base("b")))
        assert Lockfile.loads(reader.read(), "imagebuild.lock").bases == (base("a"),)


def test_a_new_file_can_be_read_by_all_and_an_old_one_keeps_its_mode(store: LockStore) -> None:
    store.change(lambda lockfile: lockfile.with_base(base("a")))
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o644
    store.path.chmod(0o600)
    store.change(lambda lockfile: lockfile.with_base(base("b")))
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


def test_changes_of_eight_threads_are_all_kept(store: LockStore, tmp_path: Path) -> None:
    start = threading.Barrier(8)

    def change(number: int) -> None:
        own = LockStore(store.path, tmp_path / "cache") if number % 2 else store
        start.wait()
        for turn in range(3):
            record = base(f"{number}-{turn}")
            own.change(lambda lockfile, record=record: lockfile.with_base(record))  # type: ignore[misc]

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.read().bases) == 24


PROGRAM = """\
import sys
from pathlib import Path
from pytest_imagebuild.build.lockstore import LockStore
from pytest_imagebuild.lockfile import BaseRecord

store = LockStore(Path(sys.argv[1]), Path(sys.argv[2]))
for turn in range(5):
    record = BaseRecord(reference=f"{sys.argv[3]}-{turn}", platform="p", source="s", digest="d")
    store.change(lambda lockfile: lockfile.with_base(record))
"""


def test_changes_of_four_processes_are_all_kept(store: LockStore, tmp_path: Path, project: Path) -> None:
    root = str(Path(pytest_imagebuild.__file__).parents[1])
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(store.path), str(tmp_path / "cache"), str(number)],
            env={**os.environ, "PYTHONPATH": root},
        )
        for number in range(4)
    ]
    assert [process.wait(timeout=60) for process in running] == [0, 0, 0, 0]
    assert len(store.read().bases) == 20
    assert [path.name for path in project.iterdir()] == ["imagebuild.lock"]


ADVICE = "Use --image-locked where the lockfile may not change."


def test_a_folder_that_is_not_there_is_an_error_that_names_the_file_and_what_to_do(tmp_path: Path) -> None:
    store = LockStore(tmp_path / "gone" / "imagebuild.lock", tmp_path / "cache")
    with pytest.raises(LockfileError) as caught:
        store.change(lambda lockfile: lockfile.with_base(base("a")))
    assert re.fullmatch(
        rf"{re.escape(str(store.path))} cannot be written: .*No such file or directory.*\. {re.escape(ADVICE)}",
        str(caught.value),
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_an_error_that_names_the_file_and_what_to_do(
    store: LockStore, project: Path
) -> None:
    project.chmod(0o555)
    try:
        with pytest.raises(LockfileError) as caught:
            store.change(lambda lockfile: lockfile.with_base(base("a")))
    finally:
        project.chmod(0o755)
    assert str(caught.value).startswith(f"{store.path} cannot be written: ")
    assert str(caught.value).endswith(ADVICE)


def test_a_file_that_is_no_text_cannot_be_read(store: LockStore) -> None:
    store.path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LockfileError, match=r"^imagebuild\.lock cannot be read: 'utf-8' codec"):
        store.read()


def test_a_folder_in_the_place_of_the_file_cannot_be_read(store: LockStore) -> None:
    store.path.mkdir()
    with pytest.raises(LockfileError, match=r"^imagebuild\.lock cannot be read: .*Is a directory"):
        store.read()


def test_a_corrupt_file_is_not_overwritten(store: LockStore) -> None:
    store.path.write_text("version = ")
    with pytest.raises(LockfileError, match="cannot be read"):
        store.change(lambda lockfile: lockfile.with_base(base("a")))
    assert store.path.read_text() == "version = "


@pytest.mark.parametrize(
    ("mode", "names", "upgrades"),
    [
        (LockMode(), ("six",), False),
        (LockMode(upgrade=True), ("six",), True),
        (LockMode(upgrade=True), (), True),
        (LockMode(upgrade=True, names=frozenset({"six"})), ("attrs", "six"), True),
        (LockMode(upgrade=True, names=frozenset({"six"})), ("attrs",), False),
        (LockMode(upgrade=True, names=frozenset({"six"})), (), False),
    ],
)
def test_an_upgrade_without_names_is_one_of_everything(mode: LockMode, names: tuple[str, ...], upgrades: bool) -> None:
    assert mode.upgrades(*names) is upgrades
