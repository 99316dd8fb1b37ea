"""Which files of a project a layer has already, and what has changed since."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pytest_imagebuild.session.kept import changes, settled, statuses
from pytest_imagebuild.session.tree import ProjectTree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a.py", "b/c.py", "b/d.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    (tmp_path / "link").symlink_to("a.py")
    return tmp_path


def tree(root: Path) -> ProjectTree:
    paths = (path.relative_to(root) for path in sorted(root.rglob("*")) if not path.is_dir() or path.is_symlink())
    return ProjectTree(root=root, paths=tuple(map(str, paths)))


def kept(root: Path) -> dict[str, tuple[int, ...]]:
    return statuses(tree(root))


def test_nothing_has_changed_where_nothing_was_done(root: Path) -> None:
    before = kept(root)
    found = changes(before, kept(root))
    assert found.same == {str(root / name) for name in ("a.py", "b/c.py", "b/d.py", "link")}
    assert (found.changed, found.size, found.removed) == (0, 0, ())


@pytest.mark.parametrize(
    "edit",
    [
        lambda path: path.write_text("longer than it was"),
        lambda path: path.write_text("A.PY"),
        lambda path: path.chmod(0o755),
        lambda path: os.utime(path, (1, 1)),
        lambda path: (path.with_name("new").write_text("a.py"), path.with_name("new").replace(path)),
        lambda path: (path.unlink(), path.symlink_to("b/c.py")),
    ],
    ids=["longer", "same size", "mode", "time", "replaced", "a link now"],
)
def test_whatever_is_done_to_a_file_changes_it_and_no_other(root: Path, edit: object) -> None:
    before = kept(root)
    time.sleep(0.02)
    assert callable(edit)
    edit(root / "a.py")
    found = changes(before, kept(root))
    assert before.keys() - found.same == {str(root / "a.py")}
    assert (found.changed, found.removed) == (1, ())
    assert found.size == (root / "a.py").lstat().st_size


def test_what_is_new_is_changed_and_what_is_gone_removed(root: Path) -> None:
    before = kept(root)
    (root / "b/new.py").write_text("12345")
    (root / "b/c.py").unlink()
    found = changes(before, kept(root))
    assert (found.changed, found.size, found.removed) == (1, 5, (str(root / "b/c.py"),))


def test_a_file_that_git_lists_and_nobody_has_is_none(root: Path) -> None:
    listed = tree(root)
    (root / "a.py").unlink()
    assert str(root / "a.py") not in statuses(listed)


def test_what_was_changed_right_before_it_was_read_counts_as_changed(root: Path) -> None:
    noted = settled(kept(root))
    assert set(noted.values()) == {()}
    assert changes(noted, kept(root)).changed == 4
    assert changes(noted, {}).removed == tuple(noted)


def test_what_was_changed_long_before_it_was_read_is_known(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns()
    monkeypatch.setattr("pytest_imagebuild.session.kept.time.time_ns", lambda: now + 2_000_000_000)
    assert settled(kept(root)) == kept(root)
