"""Expansion of variables in a Dockerfile, and the match of names."""

from __future__ import annotations

import pytest

from pytest_imagebuild.dockerfile.glob import PatternError, matches
from pytest_imagebuild.dockerfile.words import ExpansionError, expand, split

VALUES = {"v": "value", "empty": "", "path": "/a/b/c.tar.gz", "words": "one two"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", "plain"),
        ("$v", "value"),
        ("${v}x", "valuex"),
        ("$vx", ""),
        ("$", "$"),
        ("a$", "a$"),
        ("$-", "$-"),
        ("${unset:-word}", "word"),
        ("${empty:-word}", "word"),
        ("${empty-word}", ""),
        ("${unset-word}", "word"),
        ("${v:-word}", "value"),
        ("${v:+word}", "word"),
        ("${empty:+word}", ""),
        ("${empty+word}", "word"),
        ("${unset+word}", ""),
        ("${unset:-$v}", "value"),
        ("${unset:-${other:-deep}}", "deep"),
        ("${v:?message}", "value"),
        ("${path#*/}", "a/b/c.tar.gz"),
        ("${path##*/}", "c.tar.gz"),
        ("${path%.*}", "/a/b/c.tar"),
        ("${path%%.*}", "/a/b/c"),
        ("${path/b/X}", "/a/X/c.tar.gz"),
        ("${path//\\//:}", ":a:b:c.tar.gz"),
        ("'$v'", "$v"),
        ('"$v"', "value"),
        ("\"a '$v'\"", "a 'value'"),
        (r"\$v", "$v"),
        (r"\\$v", r"\value"),
        (r'"\$v \" \x"', r'$v " \x'),
        (r"a\ b", "a b"),
        ("a''b", "ab"),
    ],
)
def test_a_text_is_expanded_as_docker_does(text: str, expanded: str) -> None:
    assert expand(text, VALUES.get) == expanded


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("'open", '"\'open" lacks its closing single quote'),
        ('"open', "'\"open' lacks its closing double quote"),
        ("${v", "'${v' has an unknown modifier in the substitution of v"),
        ("${v:-x", "'${v:-x' lacks its '}'"),
        ("${}", "'${}' has a bad substitution"),
        ("${v:#x}", "'${v:#x}' has an unknown modifier in the substitution of v"),
        ("${unset:?must be set}", "unset: must be set"),
        ("${unset?}", "unset: is not allowed to be unset or empty"),
    ],
)
def test_what_cannot_be_expanded_is_said(text: str, problem: str) -> None:
    with pytest.raises(ExpansionError) as caught:
        expand(text, VALUES.get)
    assert str(caught.value) == problem


def test_a_backtick_escapes_where_the_file_says_so() -> None:
    assert expand("`$v \\ $v", VALUES.get, "`") == "$v \\ value"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("$words three", ["one", "two", "three"]),
        ('"$words" three', ["one two", "three"]),
        ("$unset", []),
        (r"a\ b", ["a b"]),
    ],
)
def test_a_text_is_expanded_to_words(text: str, words: list[str]) -> None:
    assert split(text, VALUES.get) == words


@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [
        ("*.txt", "a.txt", True),
        ("*.txt", ".txt", True),
        ("*.txt", "a.txt.bak", False),
        ("a?c", "abc", True),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[^a-c]x", "dx", True),
        (r"\*", "*", True),
        (r"\*", "a", False),
        ("[z-a]", "m", False),
        ("**", "anything", True),
        (".*", "a", False),
    ],
)
def test_names_match_as_in_go(pattern: str, name: str, found: bool) -> None:
    assert matches(pattern, name) is found


@pytest.mark.parametrize("pattern", ["[", "[]", "[a", "[-]", "\\", "[a-"])
def test_a_broken_pattern_is_said(pattern: str) -> None:
    with pytest.raises(PatternError):
        matches(pattern, "x")
