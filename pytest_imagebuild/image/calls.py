"""A chain call while its arguments are checked: what it is named, and where the user wrote it."""

from __future__ import annotations

import os
import posixpath
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pytest_imagebuild.errors import DefinitionError, SourceLocation
from pytest_imagebuild.image.patterns import FilePatternMatcher

__all__ = ["ChainCall", "callers_line"]

_PACKAGE = __name__.partition(".")[0]
_NOTHING: tuple[object, ...] = (None, (), [], {})


def callers_line() -> SourceLocation | None:
    """Give the line of the innermost frame that is not of this package."""
    frame = sys._getframe(1)  # noqa: SLF001 - the documented way, and the only one that costs a microsecond
    while frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return SourceLocation(file=frame.f_code.co_filename, line=frame.f_lineno)


class ChainCall:
    """One call: its checks give the checked value, or raise `DefinitionError` at the user's line."""

    __slots__ = ("method", "where")

    def __init__(self, method: str) -> None:
        self.method = method
        self.where = callers_line()

    def error(self, message: str) -> DefinitionError:
        """Make an error at this call; the message is prefixed with the method."""
        return DefinitionError(f"{self.method}: {message}", where=self.where)

    def refuse(self, **later: object) -> None:
        """Raise for a keyword of the reference that this version does not act on, unless it asks for nothing."""
        for keyword, value in later.items():
            if value not in _NOTHING:
                message = f"{keyword}= is not supported yet by this version of pytest-imagebuild; leave it out"
                raise self.error(message)

    def strings(self, name: str, given: Sequence[str | list[str]]) -> tuple[str, ...]:
        """Flatten strings and lists of strings."""
        flat: list[str] = []
        for argument in given:
            for item in argument if isinstance(argument, list) else [argument]:
                if not isinstance(item, str):
                    raise self.error(f"{name} must only contain strings, got {_shown(item)}")
                flat.append(item)
        return tuple(flat)

    def packages(self, given: Sequence[str | list[str]]) -> tuple[str, ...]:
        """Flatten the packages of a pip-like installer, none of which may be an option."""
        packages = self.strings("packages", given)
        for package in packages:
            if package.startswith("-"):
                message = (
                    "the package list cannot contain other arguments; try the `extra_options` parameter: "
                    f"extra_options={package!r}"
                )
                raise self.error(message)
        return packages

    def optional_text(self, name: str, value: object) -> str | None:
        """Check a string that may be left out."""
        return None if value is None else self.text(name, value)

    def text(self, name: str, value: object) -> str:
        """Check a string."""
        if not isinstance(value, str):
            raise self.error(f"{name} must be a string, got {_shown(value)}")
        return value

    def python_version(self, value: object) -> str | None:
        """Check the type; whether it is a version that the builder offers shows at build."""
        if value is not None and not isinstance(value, str):
            message = (
                f"Python version must be specified as a string, not {type(value).__name__}. "
                f'Write python_version="{value}".'
            )
            raise self.error(message)
        return value

    def registry_tag(self, value: object) -> str:
        """Check that it can be a reference at all."""
        if not isinstance(value, str) or not value or value.split() != [value]:
            message = f"the tag must be a non-empty string without spaces, as 'debian:trixie', got {_shown(value)}"
            raise self.error(message)
        return value

    def requirements(self, value: object) -> tuple[str, ...]:
        """Check a list of local paths that may be left out."""
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(f"requirements must be None or a list of strings, got {_shown(value)}")
        return tuple(value)

    def build_env(self, value: object) -> tuple[tuple[str, str], ...]:
        """Check `env=`: a mapping whose None values are dropped; sorted, because its order means nothing."""
        if value is None:
            return ()
        rule = "the env argument has to be a dict[str, Union[str, None]]"
        if not isinstance(value, Mapping):
            raise self.error(f"{rule}, got {type(value).__name__}")
        for name, content in value.items():
            if not isinstance(name, str):
                raise self.error(f"{rule}, key {name!r} has type {type(name).__name__}")
            if content is not None and not isinstance(content, str):
                raise self.error(f"{rule}, value for key {name!r} has type {type(content).__name__}")
        return tuple(sorted((name, content) for name, content in value.items() if content is not None))

    def image_env(self, value: object) -> tuple[tuple[str, str], ...]:
        """Check the variables of `Image.env`, in the order given."""
        if not isinstance(value, Mapping):
            raise self.error(f"Image ENV variables must be a dict of strings, got {_shown(value)}")
        invalid = [name for name, content in value.items() if not isinstance(name, str) or not isinstance(content, str)]
        if invalid:
            raise self.error(f"Image ENV variables must be strings. Invalid keys: {invalid}")
        return tuple(value.items())

    def path(self, name: str, value: object) -> str:
        """Check a string or path object."""
        if not isinstance(value, (str, os.PathLike)):
            raise self.error(f"{name} must be a string or a path, got {_shown(value)}")
        text = os.fspath(value)
        if not isinstance(text, str) or not text:
            raise self.error(f"{name} must be a non-empty string or path, got {_shown(text)}")
        return text

    def remote_path(self, value: object) -> str:
        """Check an absolute POSIX path and normalize it; only the trailing slash, if any, is kept as it is."""
        text = self.path("remote_path", value)
        if not text.startswith("/"):
            message = (
                f"image.{self.method}() currently only supports absolute remote_path values, got {text!r}. "
                f"Write {posixpath.join('/root', text)!r}, for example."
            )
            raise DefinitionError(message, where=self.where)
        normal = "/" + posixpath.normpath(text).lstrip("/")
        return normal + "/" if text.endswith("/") and normal != "/" else normal

    def modules(self, given: Sequence[object]) -> tuple[str, ...]:
        """Check names of modules."""
        names = tuple(item for item in given if isinstance(item, str))
        if len(names) != len(given):
            wrong = next(item for item in given if not isinstance(item, str))
            raise self.error(f"Local Python modules must be specified as strings, got {_shown(wrong)}.")
        return names

    def ignore(self, value: object) -> FilePatternMatcher | Callable[[Path], bool]:
        """Check `ignore=`: a callable stays as it is; a string is one pattern, a sequence several."""
        if isinstance(value, FilePatternMatcher):
            return value
        if callable(value):
            return value
        patterns = [value] if isinstance(value, str) else value
        if not isinstance(patterns, (Sequence, set, frozenset)) or not all(isinstance(p, str) for p in patterns):
            message = f"ignore must be a sequence of patterns or a callable that takes a path, got {_shown(value)}"
            raise self.error(message)
        try:
            return FilePatternMatcher(*patterns)
        except ValueError as problem:
            raise self.error(f"ignore: {problem}") from problem


def _shown(value: object) -> str:
    return f"{value!r} ({type(value).__name__})"
