"""Local files of a chain: which are read, where they go, and what is said of those that cannot be."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_imagebuild import FilePatternMatcher, Image
from pytest_imagebuild.errors import LocalFileError, ModuleNotMountable
from pytest_imagebuild.plan.context import read_source

BASE = Image.from_registry("debian:trixie")
Ignore = Callable[[Path], bool]


def write(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def targets(image: Image) -> list[str]:
    return [entry.path for entry in read_source(image.local_sources[0])]


def add_dir(folder: Path, ignore: Ignore | list[str] | None = None, remote: str = "/x") -> list[str]:
    return targets(BASE.add_local_dir(folder, remote, ignore=ignore or []))


# files --------------------------------------------------------------------------------------------------------------


def test_a_file_is_read_with_its_digest_and_mode(tmp_path: Path) -> None:
    file = write(tmp_path, "a.sh") / "a.sh"
    file.chmod(0o4751)
    [entry] = read_source(BASE.add_local_file(file, "/opt/").local_sources[0])
    assert (entry.path, entry.mode, entry.source) == ("/opt/a.sh", 0o4751, file)
    assert entry.sha256 == hashlib.sha256(b"a.sh").hexdigest()


def test_a_symlinked_file_is_a_regular_file_under_the_name_of_the_link(tmp_path: Path) -> None:
    write(tmp_path, "real.txt")
    (tmp_path / "link.txt").symlink_to("real.txt")
    [entry] = read_source(BASE.add_local_file(tmp_path / "link.txt", "/opt/").local_sources[0])
    assert entry.path == "/opt/link.txt"
    assert entry.sha256 == hashlib.sha256(b"real.txt").hexdigest()


def test_relative_paths_are_of_the_current_folder_and_a_tilde_is_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "here/a", "home/b")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert targets(BASE.add_local_file("a", "/a")) == ["/a"]
    assert targets(BASE.add_local_file("~/b", "/b")) == ["/b"]
    assert targets(BASE.add_local_dir("~", "/x")) == ["/x/b"]


def test_a_missing_file_is_told_at_the_line_of_its_call(tmp_path: Path) -> None:
    image = BASE.add_local_file("no/such.txt", "/x")
    with pytest.raises(LocalFileError) as caught:
        read_source(image.local_sources[0])
    assert caught.value.where == image.local_sources[0].where
    assert str(caught.value) == (
        f"{caught.value.where}: add_local_file: local file no/such.txt does not exist "
        f"(looked at {Path.cwd() / 'no/such.txt'})."
    )
    assert str(caught.value).startswith(f"{__file__}:")


def test_a_folder_given_as_a_file_is_told_with_what_takes_folders(tmp_path: Path) -> None:
    with pytest.raises(LocalFileError) as caught:
        targets(BASE.add_local_file(tmp_path, "/x"))
    assert str(caught.value).endswith(f": add_local_file: {tmp_path} is a folder. Use add_local_dir for it.")


# folders ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("remote", ["/x", "/x/", "/x//y/.."])
def test_the_contents_of_a_folder_go_below_the_remote_path_in_the_order_of_their_names(
    tmp_path: Path, remote: str
) -> None:
    write(tmp_path, "b.py", "a/z.py", "a/.hidden/c", "a/b/d")
    assert add_dir(tmp_path, remote=remote) == ["/x/a/.hidden/c", "/x/a/b/d", "/x/a/z.py", "/x/b.py"]


def test_the_root_can_be_the_remote_path(tmp_path: Path) -> None:
    assert add_dir(write(tmp_path, "a/b"), remote="/") == ["/a/b"]


def test_symlinked_files_are_followed(tmp_path: Path) -> None:
    write(tmp_path, "outside.txt", "tree/a")
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "outside.txt")
    entries = read_source(BASE.add_local_dir(tmp_path / "tree", "/x").local_sources[0])
    assert [(entry.path, entry.sha256) for entry in entries][1:] == [
        ("/x/link", hashlib.sha256(b"outside.txt").hexdigest())
    ]


def test_symlinked_folders_broken_links_empty_folders_and_pipes_vanish(tmp_path: Path) -> None:
    write(tmp_path, "tree/a", "other/b")
    (tmp_path / "tree" / "folder-link").symlink_to(tmp_path / "other")
    (tmp_path / "tree" / "broken").symlink_to("nowhere")
    (tmp_path / "tree" / "empty" / "er").mkdir(parents=True)
    os.mkfifo(tmp_path / "tree" / "pipe")
    assert add_dir(tmp_path / "tree") == ["/x/a"]


def test_a_symlink_to_the_folder_itself_can_be_added(tmp_path: Path) -> None:
    write(tmp_path, "tree/a")
    (tmp_path / "link").symlink_to("tree")
    assert add_dir(tmp_path / "link") == ["/x/a"]


def test_mode_bits_are_kept(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    (tmp_path / "a").chmod(0o755)
    (tmp_path / "b").chmod(0o600)
    entries = read_source(BASE.add_local_dir(tmp_path, "/x").local_sources[0])
    assert [entry.mode for entry in entries] == [0o755, 0o600]


def test_a_missing_folder_is_told_at_the_line_of_its_call(tmp_path: Path) -> None:
    image = BASE.add_local_dir(tmp_path / "gone", "/x")
    with pytest.raises(LocalFileError) as caught:
        read_source(image.local_sources[0])
    gone = tmp_path / "gone"
    assert str(caught.value) == (
        f"{image.local_sources[0].where}: add_local_dir: local folder {gone} does not exist (looked at {gone})."
    )


def test_a_file_given_as_a_folder_is_told_with_what_takes_files(tmp_path: Path) -> None:
    file = write(tmp_path, "a") / "a"
    with pytest.raises(LocalFileError) as caught:
        add_dir(file)
    assert str(caught.value).endswith(f": add_local_dir: {file} is not a folder. Use add_local_file for it.")


def test_nothing_is_ignored_by_default(tmp_path: Path) -> None:
    assert len(add_dir(write(tmp_path, ".git/config", ".venv/x", "__pycache__/a.pyc"))) == 3


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        (["*.py"], ["/x/d/a.py", "/x/d/b.txt"]),
        (["**/*.py"], ["/x/d/b.txt"]),
        (["d"], ["/x/a.py"]),
        (["d", "!d/b.txt"], ["/x/a.py", "/x/d/b.txt"]),
        (~FilePatternMatcher("**/*.py"), ["/x/a.py", "/x/d/a.py"]),
        (lambda path: path == Path("d/a.py"), ["/x/a.py", "/x/d/b.txt"]),
        (lambda path: True, []),
    ],
)
def test_what_is_ignored_stays_out(tmp_path: Path, ignore: Ignore | list[str], left: list[str]) -> None:
    assert add_dir(write(tmp_path, "a.py", "d/a.py", "d/b.txt"), ignore) == left


def test_a_callable_gets_relative_paths_of_files_only(tmp_path: Path) -> None:
    seen: list[Path] = []

    def ignore(path: Path) -> bool:
        seen.append(path)
        return False

    add_dir(write(tmp_path, "a", "d/b"), ignore)
    assert seen == [Path("a"), Path("d/b")]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read: No such file or directory."),
        ("a\n!\n", 'holds what is no pattern: Illegal exclusion pattern: "!".'),
        ("[\n", "holds what is no pattern: Bad pattern: '[' has a broken set or escape."),
    ],
)
@pytest.mark.parametrize("method", ["add_local_dir", "add_local_python_source"])
def test_a_wrong_ignore_file_is_told_at_the_line_of_its_call(
    tmp_path: Path, method: str, content: str | None, sentence: str
) -> None:
    file = tmp_path / "ignored"
    if content is not None:
        file.write_text(content)
    arguments = "FOLDER, '/x'" if method == "add_local_dir" else "'pytest_imagebuild'"
    names = {"BASE": BASE, "FOLDER": write(tmp_path / "a", "b"), "IGNORE": FilePatternMatcher.from_file(file)}
    image = eval(compile(f"BASE.{method}({arguments}, ignore=IGNORE)", "user.py", "eval"), names)
    with pytest.raises(LocalFileError) as caught:
        targets(image)
    assert str(caught.value) == f"user.py:1: {method}: the ignore file {file} {sentence}"


def test_an_ignored_folder_is_not_walked(tmp_path: Path) -> None:
    write(tmp_path, "a", "big/b")
    (tmp_path / "big").chmod(0)
    try:
        assert add_dir(tmp_path, ["big"]) == ["/x/a"]
    finally:
        (tmp_path / "big").chmod(0o755)


# modules ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path / "one"))
    monkeypatch.syspath_prepend(str(tmp_path / "two"))
    return tmp_path


def modules(*names: str, ignore: list[str] | None = None) -> list[str]:
    image = (
        BASE.add_local_python_source(*names) if ignore is None else BASE.add_local_python_source(*names, ignore=ignore)
    )
    return targets(image)


def refusal(name: str) -> str:
    image = BASE.add_local_python_source(name)
    with pytest.raises(ModuleNotMountable) as caught:
        read_source(image.local_sources[0])
    where, message = str(caught.value).split(": ", 1)
    assert where == str(image.local_sources[0].where)
    return message


def test_a_package_goes_to_root_with_its_python_files_alone(importable: Path) -> None:
    write(importable / "one", "ib_pkg/__init__.py", "ib_pkg/sub/a.py", "ib_pkg/notes.txt", "ib_pkg/__pycache__/a.pyc")
    assert modules("ib_pkg") == ["/root/ib_pkg/__init__.py", "/root/ib_pkg/sub/a.py"]


def test_a_dot_in_the_path_above_a_package_hides_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / ".venv" / "lib"))
    write(tmp_path / ".venv" / "lib", "ib_below_dot/__init__.py", "ib_below_dot/.hidden/a.py")
    assert modules("ib_below_dot") == ["/root/ib_below_dot/__init__.py"]


def test_ignoring_nothing_takes_everything_of_a_package(importable: Path) -> None:
    write(importable / "one", "ib_all/__init__.py", "ib_all/notes.txt")
    assert modules("ib_all", ignore=[]) == ["/root/ib_all/__init__.py", "/root/ib_all/notes.txt"]


def test_a_single_module_goes_to_root(importable: Path) -> None:
    write(importable / "one", "ib_single.py")
    assert modules("ib_single") == ["/root/ib_single.py"]


def test_a_dotted_name_takes_that_part_and_not_the_init_files_above_it(importable: Path) -> None:
    write(importable / "one", "ib_top/__init__.py", "ib_top/part/__init__.py", "ib_top/part/a.py", "ib_top/alone.py")
    for file in ("ib_top/__init__.py", "ib_top/part/__init__.py"):
        (importable / "one" / file).write_text("")
    assert modules("ib_top.part") == ["/root/ib_top/part/__init__.py", "/root/ib_top/part/a.py"]
    assert modules("ib_top.alone") == ["/root/ib_top/alone.py"]


def test_all_portions_of_a_namespace_package_are_merged(importable: Path) -> None:
    write(importable, "one/ib_space/a.py", "two/ib_space/b.py")
    assert sorted(modules("ib_space")) == ["/root/ib_space/a.py", "/root/ib_space/b.py"]


def test_several_modules_follow_each_other_and_none_is_no_error(importable: Path) -> None:
    write(importable / "one", "ib_b.py", "ib_a.py")
    assert modules("ib_b", "ib_a") == ["/root/ib_b.py", "/root/ib_a.py"]
    assert modules() == []


def test_an_installed_pure_package_may_be_added() -> None:
    assert "/root/iniconfig/__init__.py" in modules("iniconfig")


def test_a_missing_module_is_told_with_what_makes_it_importable() -> None:
    assert refusal("ib_missing") == (
        "add_local_python_source: module 'ib_missing' has no spec - might not be installed? It must be importable "
        "where pytest runs: install the project, or add its folder to the ini key pythonpath."
    )


@pytest.mark.parametrize("name", ["ib_missing.part", ".relative", "", "a/b.py"])
def test_a_name_that_cannot_be_found_is_told_at_its_line(name: str) -> None:
    assert refusal(name).startswith(f"add_local_python_source: module {name!r}")


def test_a_built_in_module_has_no_mountable_paths() -> None:
    assert refusal("sys") == "add_local_python_source: module 'sys' has no mountable paths: it is built in."


def test_a_distribution_with_binaries_is_told_to_be_installed_in_the_image(importable: Path) -> None:
    write(importable / "one", "ib_bin/__init__.py", "ib_bin/fast.cpython-313-x86_64-linux-gnu.so")
    metadata = importable / "one" / "ib_bin-1.0.dist-info"
    write(importable / "one", "ib_bin-1.0.dist-info/METADATA")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: ib_bin\nVersion: 1.0\n")
    (metadata / "RECORD").write_text("ib_bin/__init__.py,,\nib_bin/fast.cpython-313-x86_64-linux-gnu.so,,\n")
    assert refusal("ib_bin") == (
        "add_local_python_source: module 'ib_bin' can't be mounted because it contains binary file(s). "
        "Install it in the image instead, with pip_install or uv_pip_install."
    )


def test_a_local_package_with_a_binary_is_not_refused(importable: Path) -> None:
    write(importable / "one", "ib_local/__init__.py", "ib_local/fast.so")
    assert modules("ib_local") == ["/root/ib_local/__init__.py"]
