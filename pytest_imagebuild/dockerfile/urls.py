"""Sources of `ADD` that are no files of the build context."""

from __future__ import annotations

import re

__all__ = ["is_git", "is_remote", "is_url"]

_GIT = re.compile(
    r"git@|git://|ssh://|github\.com/|https?://.*\.git(?:#.*)?$|https?://github\.com/[^/]+/[^/]+/?(?:#.*)?$"
)


def is_url(source: str) -> bool:
    """Say whether a source is fetched over HTTP."""
    return source.startswith(("http://", "https://")) and not is_git(source)


def is_git(source: str) -> bool:
    """Say whether a source is a Git repository."""
    return _GIT.match(source) is not None


def is_remote(source: str) -> bool:
    """Say whether a source is no file of the build context."""
    return is_git(source) or is_url(source)
