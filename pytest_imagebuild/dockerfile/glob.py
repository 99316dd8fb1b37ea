"""The match of a name against a pattern as Go's `filepath.Match` does it, one component of a path at a time."""

from __future__ import annotations

import re

__all__ = ["PatternError", "has_wildcard", "matches"]


class PatternError(ValueError):
    """A pattern has a broken set or escape."""


def has_wildcard(text: str) -> bool:
    """Say whether a text is a pattern rather than a name."""
    return any(character in text for character in "*?[\\")


def matches(pattern: str, name: str) -> bool:
    """Say whether a name without slashes matches a pattern. Raises PatternError."""
    return re.fullmatch(_translate(pattern), name, re.DOTALL) is not None


def _translate(pattern: str) -> str:
    source, at = "", 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            source += ".*"
        elif character == "?":
            source += "."
        elif character == "[":
            piece, at = _set(pattern, at)
            source += piece
        elif character == "\\":
            if at == len(pattern):
                raise PatternError(f"{pattern!r} ends with its escape character")
            source += re.escape(pattern[at])
            at += 1
        else:
            source += re.escape(character)
    return source


def _set(pattern: str, at: int) -> tuple[str, int]:
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[str] = []
    while not ranges or not pattern.startswith("]", at):
        low, at = _member(pattern, at)
        high = low
        if pattern.startswith("-", at):
            high, at = _member(pattern, at + 1)
        # A range that runs backwards is legal and holds nothing.
        ranges.append(f"{re.escape(low)}-{re.escape(high)}" if low <= high else "")
    inside = "".join(ranges)
    if not inside:
        return ("." if negated else "(?!)"), at + 1
    return f"[{'^' if negated else ''}{inside}]", at + 1


def _member(pattern: str, at: int) -> tuple[str, int]:
    if pattern.startswith("\\", at):
        at += 1
    elif pattern[at : at + 1] in ("-", "]"):
        raise PatternError(f"{pattern!r} has a broken set")
    if at >= len(pattern):
        raise PatternError(f"{pattern!r} has a broken set")
    return pattern[at], at + 1
