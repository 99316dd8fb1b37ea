"""What a session container gets: the project's files, and the tar of them."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path, PurePath

import pytest

from pytest_imagebuild import Image
from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.errors import ImageBuildError, LocalFileError
from pytest_imagebuild.session import tree as module
from pytest_imagebuild.session.tree import ProjectTree, payload, read_tree

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
BASE = Image.from_registry("debian:trixie")


@pytest.fixture(autouse=True)
def no_git_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def write(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))
    return folder


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "protocol.file.allow=always")
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def listed(root: Path, *patterns: str) -> list[str]:
    return list(read_tree(root, patterns).paths)


def members(data: bytes) -> dict[str, bytes | None]:
    """Return what unpacking a tar gives: the last entry of a path wins."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {
            info.name: content.read() if (content := archive.extractfile(info)) and info.isreg() else None
            for info in archive.getmembers()
            if not info.issym()
        }


# in a git checkout --------------------------------------------------------------------------------------------------


@needs_git
def test_a_checkout_is_what_git_tracks_or_would_track(root: Path) -> None:
    write(root, "tracked.py", "new.py", "sub/new.py", "ignored.log", "sub/.env", "build/x", "kept.log")
    (root / ".gitignore").write_text("*.log\n!kept.log\nbuild/\n")
    (root / "sub" / ".gitignore").write_text(".env\n")
    git(root, "init")
    git(root, "add", "tracked.py")
    assert listed(root) == [".gitignore", "kept.log", "new.py", "sub/.gitignore", "sub/new.py", "tracked.py"]


@needs_git
def test_a_file_that_is_tracked_although_it_is_ignored_is_taken(root: Path) -> None:
    write(root, "a.log", "b.log")
    (root / ".gitignore").write_text("*.log\n")
    git(root, "init")
    git(root, "add", "--force", "a.log")
    assert listed(root) == [".gitignore", "a.log"]


@needs_git
def test_the_root_may_be_a_folder_of_the_checkout(root: Path) -> None:
    write(root, "outside.py", "package/inside.py", "package/sub/a.py", "package/x.log")
    (root / ".gitignore").write_text("*.log\n")
    git(root, "init")
    git(root, "add", "package/inside.py")
    assert listed(root / "package") == ["inside.py", "sub/a.py"]


@needs_git
def test_files_that_were_deleted_are_left_out_of_the_tar(root: Path) -> None:
    write(root, "a", "b", "folder/c")
    git(root, "init")
    git(root, "add", ".")
    (root / "a").unlink()
    shutil.rmtree(root / "folder")
    write(root, "folder")
    assert {PurePath(name).name for name in members(payload([read_tree(root)], ()))} == {"b", "folder"}


@needs_git
def test_names_with_spaces_newlines_and_bytes_that_are_no_text_are_taken(root: Path) -> None:
    names = ["a b", "ü", "new\nline", os.fsdecode(b"\xff")]
    write(root, *names)
    git(root, "init")
    assert sorted(listed(root)) == sorted(names)
    assert {PurePath(name).name for name in members(payload([read_tree(root)], ()))} == set(names)


@needs_git
def test_the_files_of_a_submodule_are_taken(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(write(other, "lib.py"), "init")
    git(other, "add", ".")
    git(other, "commit", "-m", "x")
    git(write(root, "a.py"), "init")
    git(root, "submodule", "add", str(other), "vendor")
    assert listed(root) == [".gitmodules", "a.py", "vendor/lib.py"]


@needs_git
def test_a_submodule_that_is_not_checked_out_is_no_file(root: Path) -> None:
    git(write(root, "a.py"), "init")
    git(root, "update-index", "--add", "--cacheinfo", "160000," + "a" * 40 + ",vendor")
    (root / "vendor").mkdir()
    assert [PurePath(name).name for name in members(payload([read_tree(root)], ()))] == ["a.py"]


# elsewhere ----------------------------------------------------------------------------------------------------------


def test_outside_a_checkout_everything_is_taken_but_what_is_plainly_no_source(root: Path) -> None:
    write(
        root,
        "a.py",
        "data/.hidden",
        ".github/x.yml",
        ".tox/x",
        ".venv/x",
        "__pycache__/a.pyc",
        "src/__pycache__/a.pyc",
        "node_modules/x",
        ".mypy_cache/x",
        "src/it.egg-info/PKG-INFO",
        ".hg/x",
        "src/b.py",
    )
    assert listed(root) == [".github/x.yml", "a.py", "data/.hidden", "src/b.py"]


def test_a_virtual_environment_of_any_name_is_skipped(root: Path) -> None:
    write(root, "a.py", "envs/mine/pyvenv.cfg", "envs/mine/lib/x.py")
    assert listed(root) == ["a.py"]


def test_linked_folders_are_links_and_not_walked(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", "x.py")
    write(root, "a.py")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(".")
    (root / "broken").symlink_to("nowhere")
    assert listed(root) == ["a.py", "broken", "linked", "loop"]


def test_without_git_on_the_path_the_folder_is_walked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, "a.py", ".git/HEAD")
    monkeypatch.setenv("PATH", str(root))
    assert listed(root) == ["a.py"]


# image_sync ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "taken"),
    [
        ((), ["a.py", "data/big.bin", "data/small.txt", "src/b.py"]),
        (("src",), ["src/b.py"]),
        (("src", "*.py"), ["a.py", "src/b.py"]),
        (("**/*.py",), ["a.py", "src/b.py"]),
        (("!data",), ["a.py", "src/b.py"]),
        (("!data/**", "!src"), ["a.py"]),
        (("**", "!data", "data/small.txt"), ["a.py", "data/small.txt", "src/b.py"]),
        (("data", "!data/big.bin"), ["data/small.txt"]),
        (("nothing",), []),
    ],
)
def test_patterns_choose_and_those_with_a_bang_leave_out(
    root: Path, patterns: tuple[str, ...], taken: list[str]
) -> None:
    write(root, "a.py", "src/b.py", "data/big.bin", "data/small.txt")
    assert listed(root, *patterns) == taken


# folders of the tree ------------------------------------------------------------------------------------------------


def test_a_folder_of_the_tree_has_its_place_and_any_other_has_none(root: Path, tmp_path: Path) -> None:
    write(root, "src/pkg/a.py", ".venv/lib/x.py")
    tree = read_tree(root)
    assert tree.place(root) == root
    assert tree.place(root / "src") == root / "src"
    assert tree.place(root / "src" / "pkg" / ".." / "pkg") == root / "src" / "pkg"
    assert tree.place(root / ".venv" / "lib") is None
    assert tree.place(tmp_path) is None
    assert (tree.holds(root / "src"), tree.holds(tmp_path)) == (True, False)


def test_the_place_is_below_the_root_as_it_is_written_also_when_that_is_a_link(root: Path, tmp_path: Path) -> None:
    write(root, "src/a.py")
    link = tmp_path / "link"
    link.symlink_to(root)
    tree = read_tree(link)
    assert tree.place(link / "src") == tree.place(root / "src") == link / "src"


# the tar ------------------------------------------------------------------------------------------------------------


def test_files_lie_at_their_own_path_with_mode_and_time(root: Path) -> None:
    file = write(root, "run.sh") / "run.sh"
    file.chmod(0o751)
    os.utime(file, (1_000_000_000, 1_000_000_000))
    with tarfile.open(fileobj=io.BytesIO(payload([read_tree(root)], ()))) as archive:
        [info] = archive.getmembers()
    assert (info.name, info.mode, info.mtime) == (str(file).lstrip("/"), 0o751, 1_000_000_000)
    assert (info.uid, info.gid, info.uname) == (0, 0, "")


def test_links_stay_links(root: Path) -> None:
    write(root, "a")
    (root / "link").symlink_to("a")
    (root / "broken").symlink_to("nowhere/at/all")
    with tarfile.open(fileobj=io.BytesIO(payload([read_tree(root)], ()))) as archive:
        links = {PurePath(info.name).name: info.linkname for info in archive.getmembers() if info.issym()}
    assert links == {"link": "a", "broken": "nowhere/at/all"}


def test_pipes_and_sockets_are_left_out(root: Path) -> None:
    write(root, "a")
    os.mkfifo(root / "pipe")
    tree = ProjectTree(root=root, paths=("a", "pipe"))
    assert stat.S_ISFIFO((root / "pipe").stat().st_mode)
    assert [PurePath(name).name for name in members(payload([tree], ()))] == ["a"]


def test_what_comes_later_wins(root: Path, tmp_path: Path) -> None:
    write(root, "conf")
    write(tmp_path / "one", "conf")
    (tmp_path / "two").write_text("two")
    place = str(root / "conf")
    image = BASE.add_local_dir(tmp_path / "one", str(root)).add_local_file(tmp_path / "two", place)
    tree, name = read_tree(root), place.lstrip("/")
    (root / "conf").write_text("tree")
    assert members(payload([tree], ()))[name] == b"tree"
    assert members(payload([tree], image.local_sources[:1]))[name] == b"conf"
    assert members(payload([tree], image.local_sources))[name] == b"two"
    tool = FileEntry(path=place, mode=0o600, data=b"tool")
    assert members(payload([tree], image.local_sources, [tool]))[name] == b"tool"


def test_a_local_source_that_is_missing_is_told_at_its_line(root: Path) -> None:
    image = BASE.add_local_file(root / "gone", "/x")
    with pytest.raises(LocalFileError, match=rf"^{__file__}:\d+: add_local_file: local file .* does not exist"):
        payload([read_tree(root)], image.local_sources)


@pytest.mark.parametrize("sizes", [(3 << 20,), (600 << 10, 600 << 10)], ids=["one file", "all files"])
def test_a_tree_that_is_too_large_is_refused_with_what_makes_it_smaller(
    root: Path, monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...]
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1 << 20)
    for number, size in enumerate(sizes):
        with (root / f"{number}.bin").open("wb") as file:
            file.truncate(size)
    with pytest.raises(ImageBuildError) as caught:
        payload([read_tree(root)], ())
    assert str(caught.value) == (
        f"The project tree {root} is larger than 1 MiB. Ignore what tests do not need in .gitignore, or leave it out "
        "with the ini key image_sync (for example `!data/**`)."
    )


def test_a_file_that_is_too_large_is_not_read(root: Path) -> None:
    with (root / "huge.bin").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ImageBuildError, match="is larger than 512 MiB"):
        payload([read_tree(root)], ())


@pytest.mark.parametrize("becomes", ["nothing", "a folder"])
def test_a_file_that_goes_away_while_the_tree_is_read_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, becomes: str
) -> None:
    for name in ("goes.py", "stays.py"):
        (tmp_path / name).write_text("pass")
    tree = read_tree(tmp_path)
    look = os.lstat

    def look_at_the_last_of(path: str) -> os.stat_result:
        status = look(path)
        if path.endswith("goes.py"):
            Path(path).unlink()
            if becomes == "a folder":
                Path(path).mkdir()
        return status

    monkeypatch.setattr("pytest_imagebuild.session.tree.os.lstat", look_at_the_last_of)

    with tarfile.open(fileobj=io.BytesIO(payload([tree], []))) as archive:
        assert [PurePath(name).name for name in archive.getnames()] == ["stays.py"]


@pytest.mark.parametrize("becomes", ["nothing", "a file"])
def test_a_folder_that_goes_away_while_the_tree_is_read_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, becomes: str
) -> None:
    for name in ("goes/one.py", "stays/two.py"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("pass")
    look = os.scandir

    def look_into_it_when_it_is_gone(path: Path) -> object:
        if path == tmp_path / "goes":
            shutil.rmtree(path)
            if becomes == "a file":
                path.write_text("pass")
        return look(path)

    monkeypatch.setattr("pytest_imagebuild.session.tree.os.scandir", look_into_it_when_it_is_gone)

    assert read_tree(tmp_path).paths == ("stays/two.py",)


def test_a_payload_is_the_tar_that_tarfile_writes(root: Path) -> None:
    names = ["a", "b/empty", f"b/{'long' * 60}", "ü :,'", "ü" * 50, "b/" + "n" * 97, os.fsdecode(b"\xff")]
    write(root, *names)
    (root / "b/empty").write_bytes(b"")
    (root / "link").symlink_to("b/" + "n" * 97)
    (root / "long link").symlink_to("to/" * 60 + "x")
    os.utime(root / "a", (-5, -5))
    (root / "a").chmod(0o4755)
    tree = read_tree(root)
    expected = io.BytesIO()
    with tarfile.open(fileobj=expected, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in tree.paths:
            member = tarfile.TarInfo(str(root / path).lstrip("/"))
            status = (root / path).lstat()
            member.mode, member.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
            if (root / path).is_symlink():
                member.type, member.linkname = tarfile.SYMTYPE, str((root / path).readlink())
                archive.addfile(member)
            else:
                member.size = status.st_size
                archive.addfile(member, io.BytesIO((root / path).read_bytes()))
    assert payload([tree], ()) == expected.getvalue()


def test_a_folder_of_a_tree_has_its_place_and_no_other_has(root: Path) -> None:
    tree = ProjectTree(root=write(root, "a/b/c", "ab/c"), paths=("a/b/c", "ab/c"))
    inside = [root, root / "a", root / "a/b", root / "ab"]
    assert [tree.place(folder) for folder in inside] == inside
    assert [tree.place(root / name) for name in ("b", "a/b/c", "a/c", "..")] == [None] * 4
