"""Ignore patterns, as a `.dockerignore` file has them.

The rules are those of moby/patternmatcher (`MatchesOrParentMatches`), see section 2.4 of the reference. One pattern
becomes one regular expression that matches a path when the pattern matches the path itself or one of its parents.
"""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass, field
from pathlib import PurePath

__all__ = [
    "AUTO_DOCKERIGNORE",
    "HIDDEN_FILES",
    "NON_PYTHON_FILES",
    "NON_SOURCE_FILES",
    "AutoDockerignore",
    "FilePatternMatcher",
]

_Rule = tuple["re.Pattern[str]", bool]  # what a path matches, and whether the pattern re-includes it (`!`)


@dataclass(frozen=True, slots=True)
class AutoDockerignore:
    """Stands for the ignore file that Docker would take."""


AUTO_DOCKERIGNORE = AutoDockerignore()
"""The default of `ignore=`: `<Dockerfile>.dockerignore`, else `.dockerignore` beside it, else that of the context."""


@dataclass(frozen=True, slots=True, init=False)
class FilePatternMatcher:
    """Say which files are ignored: a callable that takes a relative path and gives True for "ignore it".

    Patterns are relative to the root of the tree: `*` and `?` stay in one level, `**` crosses levels, `[ab]` is a set,
    a backslash escapes, and a folder stands for all that is below it. `!` re-includes; the last pattern that matches
    wins. `~matcher` ignores exactly what `matcher` keeps.

    Raises `ValueError` for a pattern that is just `!` or has a broken set or escape.
    """

    patterns: tuple[str, ...]
    inverted: bool
    file: str | None
    _rules: tuple[_Rule, ...] | None = field(compare=False, repr=False, metadata={"presentation": True})

    def __init__(self, *patterns: str) -> None:
        for pattern in patterns:
            if not isinstance(pattern, str):
                message = f"FilePatternMatcher: patterns must be strings, got {pattern!r}"
                raise TypeError(message)
        _fill(self, patterns, inverted=False, file=None, rules=_compile(patterns))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> FilePatternMatcher:
        """Take the patterns from a file, one a line; it is read when the matcher is first asked, not now.

        Lines that start with `#` are comments. A missing file raises `FileNotFoundError` at that first use.
        """
        return _matcher((), inverted=False, file=os.fspath(path), rules=None)

    def __call__(self, path: str | os.PathLike[str]) -> bool:
        """Say whether this path is ignored. It is relative to the root of the tree; the root itself, ".", never is."""
        text = _posix(path)
        if text == ".":
            return False
        for regex, reincludes in reversed(self._compiled()):
            if regex.fullmatch(text):
                return self.inverted == reincludes
        return self.inverted

    def __invert__(self) -> FilePatternMatcher:
        return _matcher(self.patterns, inverted=not self.inverted, file=self.file, rules=self._rules)

    def prunes(self, directory: str | os.PathLike[str]) -> bool:
        """Say whether all that is below this directory is ignored for sure, so that a walk may skip it.

        It is when a pattern matches the directory and no `!` pattern comes after it.
        """
        text = _posix(directory)
        if self.inverted or text == ".":
            return False
        for regex, reincludes in reversed(self._compiled()):
            if reincludes:
                return False
            if regex.fullmatch(text):
                return True
        return False

    def _compiled(self) -> tuple[_Rule, ...]:
        if self._rules is not None or self.file is None:
            return self._rules or ()
        with open(os.path.expanduser(self.file), encoding="utf-8-sig") as file:  # noqa: PTH111, PTH123 - a str, as given
            lines = file.read().splitlines()
        rules = _compile(tuple(line for line in lines if not line.startswith("#")))
        object.__setattr__(self, "_rules", rules)
        return rules


def _matcher(
    patterns: tuple[str, ...], *, inverted: bool, file: str | None, rules: tuple[_Rule, ...] | None
) -> FilePatternMatcher:
    matcher = FilePatternMatcher.__new__(FilePatternMatcher)
    _fill(matcher, patterns, inverted=inverted, file=file, rules=rules)
    return matcher


def _fill(
    matcher: FilePatternMatcher,
    patterns: tuple[str, ...],
    *,
    inverted: bool,
    file: str | None,
    rules: tuple[_Rule, ...] | None,
) -> None:
    # The dataclass is frozen: these are the only writes besides the one in `_compiled`.
    object.__setattr__(matcher, "patterns", patterns)
    object.__setattr__(matcher, "inverted", inverted)
    object.__setattr__(matcher, "file", file)
    object.__setattr__(matcher, "_rules", rules)


def _posix(path: str | os.PathLike[str]) -> str:
    return path.as_posix() if isinstance(path, PurePath) else posixpath.normpath(os.fspath(path))


def _compile(patterns: tuple[str, ...]) -> tuple[_Rule, ...]:
    rules = []
    for given in patterns:
        pattern = given.strip()
        if not pattern:
            continue
        reincludes = pattern.startswith("!")
        pattern = pattern.removeprefix("!").strip()
        if not pattern:
            message = 'Illegal exclusion pattern: "!"'
            raise ValueError(message)
        cleaned = posixpath.normpath(pattern).lstrip("/") or "."
        regex = re.compile(f"{_translate(cleaned, given)}(?:/.*)?", re.DOTALL)
        rules.append((regex, reincludes))
    return tuple(rules)


def _translate(pattern: str, given: str) -> str:
    """Turn one cleaned pattern into the source of a regular expression for the whole path."""
    # moby compares the end of the path when "**" leads and nothing else is special: "**foo" matches "dir/xfoo".
    if pattern.startswith("**") and pattern[2:3] not in ("/", "") and not re.search(r"[*?\[\]\\]", pattern[2:]):
        return ".*" + re.escape(pattern[2:])
    source, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        if pattern.startswith("**", at):
            at += 3 if pattern.startswith("/", at + 2) else 2
            source += "(?:.*/)?" if at < len(pattern) else ".*"
            continue
        if char == "[":
            piece, at = _character_set(pattern, at, given)
            source += piece
            continue
        if char == "\\":
            at += 1
            if at == len(pattern):
                raise _bad(given)
            source += re.escape(pattern[at])
        else:
            source += {"*": "[^/]*", "?": "[^/]"}.get(char) or re.escape(char)
        at += 1
    return source


def _character_set(pattern: str, at: int, given: str) -> tuple[str, int]:
    """Translate the set that starts at `pattern[at]`; give the regular expression and where the set ends.

    The grammar is that of Go's `filepath.Match`: at least one character or range, `^` negates, `-` only in a range.
    """
    at += 1
    source = "["
    if pattern.startswith("^", at):
        source += "^"
        at += 1
    empty = True
    while empty or not pattern.startswith("]", at):
        low, at = _set_character(pattern, at, given)
        high = low
        if pattern.startswith("-", at):
            high, at = _set_character(pattern, at + 1, given)
        # A range that runs backwards is legal in Go and holds nothing.
        if low <= high:
            source += re.escape(low) if low == high else f"{re.escape(low)}-{re.escape(high)}"
        empty = False
    if source == "[":
        return "(?!)", at + 1
    if source == "[^":
        return ".", at + 1
    return source + "]", at + 1


def _set_character(pattern: str, at: int, given: str) -> tuple[str, int]:
    if at >= len(pattern) or pattern[at] in "-]":
        raise _bad(given)
    if pattern[at] == "\\":
        at += 1
        if at >= len(pattern):
            raise _bad(given)
    return pattern[at], at + 1


def _bad(pattern: str) -> ValueError:
    return ValueError(f"Bad pattern: {pattern!r} has a broken set or escape")


HIDDEN_FILES = FilePatternMatcher("**/.*", "**/__pycache__")
"""Ignore what starts with a dot, and compiled Python, at any depth."""

NON_PYTHON_FILES = ~FilePatternMatcher("**/*.py")
"""Ignore everything but `.py` files."""

NON_SOURCE_FILES = FilePatternMatcher("**", "!**/*.py", *HIDDEN_FILES.patterns)
"""Ignore everything but `.py` files, and also those in dot-prefixed and `__pycache__` folders."""
