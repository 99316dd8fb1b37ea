"""`--image` and the ini key `image`: which folders they are for, and what a worker's collection looks like here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_imagebuild.dispatch.governed.places import Place, Places
from pytest_imagebuild.dispatch.governed.tree import MAX_DEPTH, Tree
from pytest_imagebuild.dispatch.requests import SessionKey
from pytest_imagebuild.errors import WireError
from pytest_imagebuild.image.chain import Image
from pytest_imagebuild.options import NamedImage
from pytest_imagebuild.session.nodes import Node
from pytest_imagebuild.session.reports import mend_collect_report
from pytest_imagebuild.terminal import image_lines
from pytest_imagebuild.worker.arguments import accept, ini_keys, options, unread

IMAGE = Image.from_registry("python:3.13")


def place(folder: str, label: str = "") -> Place:
    return Place(folder=Path(folder), key=SessionKey(image=IMAGE, collects=(folder, label)), label=label)


def node(index: int, parent: int | None = None, **values: Any) -> Node:
    role = values.pop("role", "item" if parent is not None else "file")
    path = values.pop("path", "/p/t.py")
    return Node(
        index=index, parent=parent, role=role, kind="x", nodeid=f"n{index}", name=f"n{index}", path=path, markers=(),
        keywords=(), extra_keywords=(), doc=None, location=("t.py", 1, "t") if role == "item" else None, report=None,
    )  # fmt: skip


# places -------------------------------------------------------------------------------------------------------------


def test_the_innermost_folder_decides() -> None:
    outer, inner = place("/p"), place("/p/tests/gpu")
    places = Places([outer, inner])
    assert places.of(Path("/p/tests/test_a.py")) == [outer]
    assert places.of(Path("/p/tests/gpu/deep/test_a.py")) == [inner]
    assert places.of(Path("/elsewhere")) == ()
    assert places.below(Path("/p")) == [Path("/p/tests/gpu")]


IMAGES = """
from pytest_imagebuild import Image

A = Image.from_registry("python:3.13")
B = Image.from_registry("python:3.11")
"""


def named(base: Path, *names: str) -> list[NamedImage]:
    return [NamedImage(folder=Path("/"), name=name, base=base, origin="--image") for name in names]


def test_one_image_has_no_label_and_several_have_their_names(tmp_path: Path) -> None:
    (tmp_path / "images.py").write_text(IMAGES)
    (tmp_path / "more.py").write_text(IMAGES)

    def labels(*names: str) -> list[str]:
        return [one.label for one in Places.load(named(tmp_path, *names))]

    assert labels("images.py:A") == [""]
    assert labels("images.py:A", "images.py:A") == [""]
    assert labels("images.py:A", "images.py:B") == ["A", "B"]
    assert labels("images.py:A", "more.py:A", "more.py:B") == ["images.py:A", "more.py:A", "B"]


def test_equal_images_with_two_names_have_two_sessions(tmp_path: Path) -> None:
    (tmp_path / "images.py").write_text(IMAGES + "C = Image.from_registry('python:3.13')\n")
    assert len({one.key for one in Places.load(named(tmp_path, "images.py:A", "images.py:C"))}) == 2


def test_what_defines_an_image_does_not_change_the_import_path(tmp_path: Path) -> None:
    (tmp_path / "images_of_places.py").write_text(IMAGES)
    import sys

    before = list(sys.path)
    Places.load(named(tmp_path, "images_of_places.py:A", "images_of_places:B"))
    assert sys.path == before


def test_an_error_in_the_file_of_an_image_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(pytest.UsageError, match=r"--image broken.py:A: ZeroDivisionError: division by zero"):
        Places.load(named(tmp_path, "broken.py:A"))


# the tree -----------------------------------------------------------------------------------------------------------


def test_folders_and_files_come_in_the_order_of_the_collection() -> None:
    tree = Tree()
    tree.add([node(0, path="/p/b/z.py"), node(1, 0), node(2, path="/p/c.py"), node(3, path="/p/b/a.py")])
    assert list(tree.within(Path("/p"))) == [Path("/p/b"), Path("/p/c.py")]
    assert list(tree.within(Path("/p/b"))) == [Path("/p/b/z.py"), Path("/p/b/a.py")]
    (file,) = tree.file(Path("/p/b/z.py"))
    assert [child.index for child in tree.children(file)] == [1]
    assert [each.index for each in tree.everything(file)] == [0, 1]


def test_a_node_without_its_parent_is_refused() -> None:
    with pytest.raises(WireError, match="without its parent"):
        Tree().add([node(5, 4)])


def test_nodes_are_not_nested_without_end() -> None:
    tree = Tree()
    tree.add([node(0)])
    with pytest.raises(WireError, match="nested deeper than 50"):
        tree.add(node(index, index - 1, role="collector") for index in range(1, 100))
    assert len(list(tree.everything(tree.file(Path("/p/t.py"))[0]))) == MAX_DEPTH + 1


def test_an_item_has_no_children() -> None:
    with pytest.raises(WireError, match="without its parent"):
        Tree().add([node(0), node(1, 0), node(2, 1)])


def test_a_collect_report_that_passed_is_none_of_a_problem() -> None:
    data: dict[str, Any] = {"nodeid": "a", "outcome": "passed", "longrepr": None, "sections": []}
    with pytest.raises(WireError):
        mend_collect_report(data)
    failed = mend_collect_report({**data, "outcome": "failed", "longrepr": "no", "sections": [["out", "x"]]})
    assert (failed["longrepr"], failed["sections"]) == ("no", [("out", "x")])
    skipped = mend_collect_report({**data, "outcome": "skipped", "longrepr": ["a.py", 3, "no"]})
    assert skipped["longrepr"] == ("a.py", 3, "no")


# the command line ---------------------------------------------------------------------------------------------------


class Shades:
    """A plugin that one side has."""

    @staticmethod
    def pytest_addoption(parser: pytest.Parser) -> None:
        group = parser.getgroup("shades")
        group.addoption("--shade", default="none")
        group.addoption("--shades", action="append")
        group.addoption("--dark", action="store_true")
        group.addoption("--deep", nargs="?", const="very")
        group._addoption("-j", action="count", dest="jolly")
        parser.addini("depth", "how deep")


def test_one_side_reads_what_the_other_knows(pytester: pytest.Pytester) -> None:
    inside = pytester.parseconfig("-p", "no:imagebuild")
    there = pytester.parseconfig()
    for config in (inside, there):
        config._parser.addoption("--both", default="b")
    Shades.pytest_addoption(inside._parser)
    arguments = ["--shade", "blue", "--dark", "--deep", "--shades=a", "--shades", "b", "-jj", "--both=c", "tests"]
    assert "--shade" in unread(there._parser, arguments, there.option)
    accept(there._parser, options(inside._parser), ini_keys(inside._parser))
    read = there._parser.parse(arguments)
    assert (read.shade, read.shades, read.dark, read.deep) == ("blue", ["a", "b"], True, "very")
    assert (read.jolly, read.both, read.file_or_dir) == (2, "c", ["tests"])
    assert unread(there._parser, arguments, there.option) == []
    assert "depth" in there._parser._inidict


def test_options_that_are_known_stay_as_they_are(pytester: pytest.Pytester) -> None:
    parser = pytester.parseconfig()._parser
    before = options(parser)
    accept(parser, before)
    assert options(parser) == before


# the summary --------------------------------------------------------------------------------------------------------


class _Told:
    def __init__(self, nodeid: str) -> None:
        self.nodeid = nodeid


def test_the_summary_counts_by_image() -> None:
    stats: dict[str, list[object]] = {
        "passed": [_Told("a.py::t[A]"), _Told("a.py::t[A-1]"), _Told("a.py::t[B]"), _Told("a.py::t[AB]")],
        "failed": [_Told("a.py::t[B-A]")],
        "warnings": [_Told("a.py::t[A]")],
        "": [_Told("a.py::t[A]")],
    }
    assert image_lines(stats, ["B", "A", "C"]) == [
        "imagebuild (A): 2 passed",
        "imagebuild (B): 1 failed, 1 passed",
        "imagebuild (C): no tests ran",
    ]
