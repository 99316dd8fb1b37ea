"""Any ignore patterns and any paths, judged a second time: by the rules as they are written, a character at a time."""

from __future__ import annotations

import posixpath
from pathlib import PurePosixPath

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from test_patterns import TABLE

from pytest_imagebuild import FilePatternMatcher

ALIKE = settings(deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
"""The same examples in every run, and no time spent on making one that fails smaller."""

NAMES = st.text("ab.-]", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
PIECES = ["a", "b", ".", "-", "*", "?", "**", "[ab]", "[^a]", "[a-b]", "[b-a]", r"[\]\-]", r"\a", r"\*", r"\]", "]"]
SEGMENTS = st.just("**") | st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join)
WELL_FORMED = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)
ANY_TEXT = st.text("ab./*?[]-^\\! ", min_size=1, max_size=8)


class Broken(Exception):
    """A pattern that means nothing."""


def ignored(patterns: list[str], path: str) -> bool:
    """Say whether a path is ignored: the last pattern that fits the path or a folder above it decides."""
    answer = False
    for line in patterns:
        text = line.strip()
        if not text:
            continue
        again = text.startswith("!")
        pattern = text.removeprefix("!").strip()
        if not pattern:
            raise Broken
        pattern = posixpath.normpath(pattern).lstrip("/") or "."
        split(pattern)
        parts = path.split("/")
        if any(fits(pattern, "/".join(parts[: number + 1])) for number in range(len(parts))):
            answer = not again
    return answer


def fits(pattern: str, path: str) -> bool:
    literal = pattern.removeprefix("**")
    if pattern.startswith("**") and literal and literal[0] != "/" and not set(literal) & set("*?[]\\"):
        # "**" before nothing but a name is for any name with that end.
        return path.endswith(literal)
    return follow(split(pattern), path)


def split(pattern: str) -> list[str]:
    """Return the pieces of a pattern: "**", "*", "?", a set in its brackets, or an escaped or plain character."""
    pieces = []
    while pattern:
        size = 1
        if pattern.startswith("**"):
            size = 3 if pattern.startswith("**/") else 2
        elif pattern[0] == "\\":
            size = 2
        elif pattern[0] == "[":
            size = 2 if pattern.startswith("[^") else 1
            first = True
            while first or pattern[size : size + 1] != "]":
                size = member(pattern, size)[1]
                if pattern[size : size + 1] == "-":
                    size = member(pattern, size + 1)[1]
                first = False
            size += 1
        if size > len(pattern):
            raise Broken
        pieces.append(pattern[:size])
        pattern = pattern[size:]
    return pieces


def member(pattern: str, at: int) -> tuple[str, int]:
    """Return a character of a set, and where the next one is."""
    if pattern[at : at + 1] in ("", "-", "]"):
        raise Broken
    if pattern[at] == "\\":
        at += 1
        if at == len(pattern):
            raise Broken
    return pattern[at], at + 1


def follow(pieces: list[str], path: str) -> bool:
    if not pieces:
        return not path
    first, rest = pieces[0], pieces[1:]
    if first.startswith("**"):
        if not rest:
            return True
        return follow(rest, path) or any(follow(rest, path[at + 1 :]) for at, one in enumerate(path) if one == "/")
    if first == "*":
        return follow(rest, path) or (path[:1] not in ("", "/") and follow(pieces, path[1:]))
    if not path or not stands_for(first, path[0]):
        return False
    return follow(rest, path[1:])


def stands_for(piece: str, one: str) -> bool:
    if piece == "?":
        return one != "/"
    if piece[0] != "[" or len(piece) == 1:
        return piece[-1] == one
    at, found = (2 if piece[1] == "^" else 1), False
    while at < len(piece) - 1:
        low, at = member(piece, at)
        high = low
        if piece[at] == "-":
            high, at = member(piece, at + 1)
        found = found or low <= one <= high
    return found != (piece[1] == "^")


@pytest.mark.parametrize(("patterns", "gone", "kept"), TABLE)
def test_the_rules_say_what_the_table_says(patterns: tuple[str, ...], gone: str, kept: str) -> None:
    assert all(ignored(list(patterns), path) for path in gone.split())
    assert not any(ignored(list(patterns), path) for path in kept.split())


@settings(ALIKE, max_examples=400)
@given(
    st.lists(st.tuples(st.sampled_from(["", "", "!"]), WELL_FORMED), min_size=1, max_size=3),
    st.lists(PATHS, max_size=4),
)
def test_patterns_ignore_what_the_rules_say(lines: list[tuple[str, str]], paths: list[str]) -> None:
    patterns = [sign + pattern for sign, pattern in lines]
    matcher = FilePatternMatcher(*patterns)
    for path in paths:
        assert matcher(PurePosixPath(path)) is ignored(patterns, path), (patterns, path)
        assert (~matcher)(PurePosixPath(path)) is not matcher(PurePosixPath(path))


@settings(ALIKE, max_examples=400)
@given(st.lists(ANY_TEXT, min_size=1, max_size=2), st.lists(PATHS, min_size=1, max_size=4))
def test_any_text_is_a_pattern_by_the_rules_or_refused(patterns: list[str], paths: list[str]) -> None:
    try:
        expected = [ignored(patterns, path) for path in paths]
    except Broken:
        with pytest.raises(ValueError, match=r"^(Bad pattern: |Illegal exclusion pattern: \"!\"$)"):
            FilePatternMatcher(*patterns)
        return
    matcher = FilePatternMatcher(*patterns)
    assert [matcher(PurePosixPath(path)) for path in paths] == expected, (patterns, paths)


@settings(ALIKE, max_examples=150)
@given(
    WELL_FORMED,
    st.sampled_from(["{}", "/{}", "./{}", "{}/", " {} ", "{}//", "x/../{}", "{}/."]),
    st.lists(PATHS, min_size=1, max_size=4),
)
def test_how_a_pattern_is_written_does_not_matter(pattern: str, form: str, paths: list[str]) -> None:
    one, other = FilePatternMatcher(pattern), FilePatternMatcher(form.format(pattern))
    assert [one(path) for path in paths] == [other(path) for path in paths]


@settings(ALIKE, max_examples=150)
@given(
    st.lists(st.tuples(st.sampled_from(["", "", "!"]), WELL_FORMED), min_size=1, max_size=3),
    PATHS,
    st.lists(PATHS, max_size=3),
)
def test_below_a_folder_that_is_skipped_all_is_ignored(
    lines: list[tuple[str, str]], folder: str, below: list[str]
) -> None:
    matcher = FilePatternMatcher(*(sign + pattern for sign, pattern in lines))
    if matcher.prunes(folder):
        assert matcher(PurePosixPath(folder))
        assert all(matcher(PurePosixPath(folder, path)) for path in below)
