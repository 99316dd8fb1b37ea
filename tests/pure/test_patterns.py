"""Ignore patterns: the semantics of section 2.4 of the reference."""

from __future__ import annotations

import pickle
from pathlib import Path, PurePosixPath

import pytest

from pytest_imagebuild import FilePatternMatcher
from pytest_imagebuild.image.patterns import HIDDEN_FILES, NON_PYTHON_FILES, NON_SOURCE_FILES

TABLE = [
    # patterns, what they ignore, what they keep
    ((), "", "a d/a"),
    (("",), "", "a"),
    (("  ",), "", "a"),
    (("*.py",), "a.py .py x.py/y", "d/a.py a.pyc a"),
    (("a",), "a a/b a/b/c", "b/a aa"),
    (("d", "!d/keep"), "d d/x", "d/keep d/keep/y"),
    (("d/",), "d d/x", "x/d"),
    (("/d",), "d d/x", "x/d"),
    (("./d",), "d d/x", "x/d"),
    (("d//e",), "d/e d/e/f", "d"),
    (("d/../e",), "e", "d"),
    ((" d ",), "d", "x"),
    (("d/*",), "d/x d/x/y", "d x"),
    (("d/**",), "d/x d/x/y", "d dx"),
    (("**",), "a a/b .x", ""),
    (("*",), "a a/b .x", ""),
    (("**/a",), "a x/a x/y/a x/a/b", "aa x/aa xa"),
    (("**a",), "a x/a xa x/ya", "ab"),
    (("**/*.py",), "a.py d/a.py d/e/a.py", "a.pyc d"),
    (("**/.*",), ".x d/.x d/.x/y", "x d/x.y"),
    (("a/**/b",), "a/b a/x/b a/x/y/b a/b/z", "a ab a/xb"),
    (("a**b",), "ab ax/b a/x/b", "axb"),
    (("a/**/*.txt",), "a/x.txt a/b/x.txt", "x.txt b/x.txt"),
    (("**/**/x",), "x a/x a/b/x", "y"),
    (("?",), "a b a/b", "ab"),
    (("a?c",), "abc", "ac a/c abbc"),
    (("[ab]",), "a b", "c ab"),
    (("[a-c]x",), "ax bx cx", "dx"),
    (("[^a-c]x",), "dx", "ax"),
    (("[c-a]x",), "", "ax cx x"),
    ((r"[\-\]]",), "- ]", "a"),
    (("[.]x",), ".x", "ax"),
    ((r"\*",), "*", "a"),
    ((r"\[a\]",), "[a]", "a"),
    ((r"a\b",), "ab", r"a\b"),
    (("a.b",), "a.b", "axb"),
    (("a+(b)|$^{c}",), "a+(b)|$^{c}", "aab"),
    (("a]",), "a]", "a"),
    (("é*",), "é éx", "e"),
    # the last pattern that matches wins
    (("*.txt", "!a.txt"), "b.txt", "a.txt"),
    (("*.txt", "!a.txt", "a*"), "a.txt b.txt", "c"),
    (("!a.txt", "*.txt"), "a.txt", "a"),
    (("!a",), "", "a b"),
    (("! a", "b"), "b", "a"),
    (("d", "!d/e", "d/e/f"), "d/x d/e/f d/e/f/g", "d/e d/e/x"),
    (("!!a", "b"), "b", "!a"),
]


@pytest.mark.parametrize(("patterns", "ignored", "kept"), TABLE)
def test_patterns_ignore_and_keep_what_the_table_says(patterns: tuple[str, ...], ignored: str, kept: str) -> None:
    matcher = FilePatternMatcher(*patterns)
    assert [path for path in ignored.split() if not matcher(PurePosixPath(path))] == []
    assert [path for path in kept.split() if matcher(PurePosixPath(path))] == []
    assert [path for path in ignored.split() if (~matcher)(PurePosixPath(path))] == []
    assert [path for path in kept.split() if not (~matcher)(PurePosixPath(path))] == []


@pytest.mark.parametrize("matcher", [FilePatternMatcher("**"), FilePatternMatcher("."), ~FilePatternMatcher("a")])
def test_the_root_is_never_ignored(matcher: FilePatternMatcher) -> None:
    assert not matcher(Path())
    assert not matcher.prunes(Path())


def test_a_name_with_a_newline_is_matched_whole() -> None:
    assert FilePatternMatcher("d")(PurePosixPath("d/a\nb"))
    assert not FilePatternMatcher("a")(PurePosixPath("a\n"))


@pytest.mark.parametrize("pattern", ["!", " ! ", "!  "])
def test_a_lone_exclamation_mark_is_illegal(pattern: str) -> None:
    with pytest.raises(ValueError, match=r'^Illegal exclusion pattern: "!"$'):
        FilePatternMatcher("a", pattern)


@pytest.mark.parametrize(
    "pattern", ["[", "a[", "[]", "[]a]", "[^]", "[a", "[-]", "[x-]", "[-x]", "[a-b-c]", "a\\", "[\\"]
)
def test_a_broken_set_or_escape_is_a_bad_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"^Bad pattern: .* has a broken set or escape$"):
        FilePatternMatcher(pattern)


def test_a_pattern_that_is_no_string_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="patterns must be strings, got 1"):
        FilePatternMatcher(1)  # type: ignore[arg-type]


def test_inverting_twice_gives_an_equal_matcher() -> None:
    matcher = FilePatternMatcher("a", "!b")
    assert matcher == ~~matcher
    assert matcher != ~matcher
    assert hash(~~matcher) == hash(matcher)


def test_a_matcher_survives_pickling() -> None:
    matcher = pickle.loads(pickle.dumps(~FilePatternMatcher("a")))
    assert matcher == ~FilePatternMatcher("a")
    assert matcher("b")


def test_a_file_is_read_at_the_first_use_and_not_again(tmp_path: Path) -> None:
    path = tmp_path / "ignore"
    matcher = FilePatternMatcher.from_file(path)
    with pytest.raises(FileNotFoundError):
        matcher("a")
    path.write_text("# a comment [\n\n*.txt\n!keep.txt\n", "utf-8")
    assert matcher("a.txt")
    path.unlink()
    assert not matcher("keep.txt")
    assert not (~matcher)("a.txt")


def test_a_byte_order_mark_in_a_file_is_no_part_of_its_first_pattern(tmp_path: Path) -> None:
    path = tmp_path / "ignore"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb\r\n")
    matcher = FilePatternMatcher.from_file(str(path))
    assert matcher("a")
    assert matcher("b")


PRUNING = [
    (("d",), "d", True),
    (("d",), "d/e", True),
    (("d",), "e", False),
    (("d/**",), "d", False),
    (("d", "!d/keep"), "d", False),
    (("!keep", "d"), "d", True),
    (("**", "!**/*.py", "**/.*"), ".git", True),
    (("**", "!**/*.py", "**/.*"), "d", False),
]


@pytest.mark.parametrize(("patterns", "directory", "pruned"), PRUNING)
def test_a_directory_is_pruned_when_nothing_below_it_can_come_back(
    patterns: tuple[str, ...], directory: str, pruned: bool
) -> None:
    assert FilePatternMatcher(*patterns).prunes(PurePosixPath(directory)) is pruned


def test_an_inverted_matcher_prunes_nothing() -> None:
    assert not (~FilePatternMatcher("**/*.py")).prunes("d")


def test_non_python_files_keeps_python_files_at_any_depth_hidden_or_not() -> None:
    assert ~FilePatternMatcher("**/*.py") == NON_PYTHON_FILES
    assert [p for p in ("a.py", "d/a.py", "d/.h/a.py", "a.txt", "d/a.so") if not NON_PYTHON_FILES(p)] == [
        "a.py",
        "d/a.py",
        "d/.h/a.py",
    ]


def test_non_source_files_leaves_out_hidden_and_compiled_files_too() -> None:
    paths = ("a.py", "d/a.py", "d/.h/a.py", ".a.py", "__pycache__/a.py", "d/__pycache__/a.pyc", "a.txt")
    assert [path for path in paths if not NON_SOURCE_FILES(path)] == ["a.py", "d/a.py"]
    assert NON_SOURCE_FILES.prunes("d/__pycache__")


def test_hidden_files_are_dot_prefixed_paths_and_bytecode() -> None:
    paths = ("a.py", "a.txt", ".x", "d/.x/y", "__pycache__/a.pyc")
    assert [path for path in paths if not HIDDEN_FILES(path)] == ["a.py", "a.txt"]
