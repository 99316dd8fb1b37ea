"""A chain call while its arguments are checked: what it is named, and where the user wrote it."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar

from pytest_imagebuild.errors import DefinitionError, SourceLocation
from pytest_imagebuild.image.callers import callers_line
from pytest_imagebuild.image.canonical import encode
from pytest_imagebuild.image.patterns import FilePatternMatcher

if TYPE_CHECKING:
    from pytest_imagebuild.image.gpu import GpuRequest
    from pytest_imagebuild.image.secret import Secret
    from pytest_imagebuild.image.steps.pip_options import PipOptions
    from pytest_imagebuild.image.volume import Mounted

__all__ = ["ChainCall", "LayerOptions"]

T = TypeVar("T")
_USER = re.compile(r"[A-Za-z0-9._-]+")
_VERSION = re.compile(r"[A-Za-z0-9.+!_-]+")
_REPOSITORY = re.compile(r"(?:github|gitlab)\.com/[^\s\"'`$\\]+")


class LayerOptions(TypedDict):
    """What every step that makes a layer is told, by the names of the fields of `Step`."""

    force: bool
    build_env: tuple[tuple[str, str], ...]
    secrets: tuple[Secret, ...]
    gpu: tuple[GpuRequest, ...]
    where: SourceLocation | None


class ChainCall:
    """One call: its checks give the checked value, or raise `DefinitionError` at the user's line."""

    __slots__ = ("method", "where")

    def __init__(self, method: str) -> None:
        self.method = method
        self.where = callers_line()

    def error(self, message: str) -> DefinitionError:
        """Make an error at this call; the message is prefixed with the method."""
        return DefinitionError(f"{self.method}: {message}", where=self.where)

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

    def pip_options(
        self, find_links: object, index_url: object, extra_index_url: object, pre: object, extra_options: object
    ) -> PipOptions:
        """Check how pip and uv look for packages."""
        from pytest_imagebuild.image.steps.pip_options import PipOptions  # noqa: PLC0415 - only pip and uv have them

        return PipOptions(
            find_links=self.optional_text("find_links", find_links),
            index_url=self.optional_text("index_url", index_url),
            extra_index_url=self.optional_text("extra_index_url", extra_index_url),
            pre=bool(pre),
            extra_options=self.text("extra_options", extra_options),
        )

    def words(self, name: str, value: object) -> tuple[str, ...]:
        """Check a list of strings; the error has the words of the reference."""
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(f"{name} must be a list of strings, got {_shown(value)}")
        return tuple(value)

    def optional_text(self, name: str, value: object) -> str | None:
        """Check a string that may be left out."""
        return None if value is None else self.text(name, value)

    def text(self, name: str, value: object) -> str:
        """Check a string."""
        if not isinstance(value, str):
            raise self.error(f"{name} must be a string, got {_shown(value)}")
        return value

    def python_version(self, value: object, keyword: str = "python_version") -> str | None:
        """Check the type; whether it is a version that the builder offers shows at build."""
        if value is not None and not isinstance(value, str):
            message = (
                f'Python version must be specified as a string, not {type(value).__name__}. Write {keyword}="{value}".'
            )
            raise self.error(message)
        return value

    def registry_tag(self, value: object) -> str:
        """Check that it can be a reference at all."""
        if not isinstance(value, str) or not value or value.split() != [value]:
            message = f"the tag must be a non-empty string without spaces, as 'debian:trixie', got {_shown(value)}"
            raise self.error(message)
        return value

    def repositories(self, given: Sequence[object]) -> tuple[str, ...]:
        """Check references of git repositories."""
        sound = tuple(item for item in given if isinstance(item, str) and _REPOSITORY.fullmatch(item))
        wrong = [item for item in given if item not in sound]
        if wrong:
            message = (
                f"{len(wrong)} out of {len(given)} given repository refs are invalid: {wrong}. Write them as "
                "'github.com/owner/name' or 'gitlab.com/owner/name'."
            )
            raise self.error(message)
        return sound

    def git_user(self, value: object) -> str:
        """Check the name of a user that stands in an address."""
        name = self.text("git_user", value)
        if not _USER.fullmatch(name):
            raise self.error(f"git_user must be a user name, as 'octocat', got {_shown(value)}")
        return name

    def version(self, name: str, value: object) -> str | None:
        """Check a version that may be left out."""
        text = self.optional_text(name, value)
        if text is not None and not _VERSION.fullmatch(text):
            raise self.error(f"{name} must be a version, as '1.8.5', got {_shown(value)}")
        return text

    def names(self, name: str, value: object) -> tuple[str, ...]:
        """Check a list of strings that may be left out."""
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(f"{name} must be None or a list of strings, got {_shown(value)}")
        return tuple(value)

    def layer_options(
        self, *, force_build: object, env: object, secrets: object, gpu: object = None, fallbacks: bool = False
    ) -> LayerOptions:
        """Check what every step that makes a layer takes; `fallbacks` as in `gpu`."""
        return LayerOptions(
            force=bool(force_build),
            build_env=self.build_env(env),
            secrets=self.secrets(secrets),
            gpu=self.gpu(gpu, fallbacks=fallbacks),
            where=self.where,
        )

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

    def volumes(self, value: object) -> Mounted:
        """Check `volumes=`: a dict of canonical absolute paths and Volumes, each given once; sorted by path."""
        if value is None:
            return ()
        from pytest_imagebuild.image.volume import mounted_at  # noqa: PLC0415 - few calls need it

        try:
            return mounted_at(value)
        except ValueError as problem:
            raise self.error(str(problem)) from None

    def secrets(self, value: object) -> tuple[Secret, ...]:
        """Check `secrets=`: a collection that may be left out, in the order given; that of a set means nothing."""
        if value is None:
            return ()
        from pytest_imagebuild.image.secret import Secret  # noqa: PLC0415 - few calls have any

        # What is found is not shown: who passes a text here, passes the secret itself.
        rule = "All secrets of an Image need to be Secret instances"
        if isinstance(value, (str, bytes)) or not isinstance(value, Collection):
            raise self.error(f"{rule}, in a list: secrets takes [Secret, ...], found {type(value).__name__}")
        found = tuple(item for item in value if isinstance(item, Secret))
        if len(found) != len(value):
            wrong = next(type(item).__name__ for item in value if not isinstance(item, Secret))
            raise self.error(f"{rule}, found {wrong}. Make one: Secret.from_dict({{...}}), Secret.from_name(...)")
        return tuple(sorted(found, key=encode)) if isinstance(value, (set, frozenset)) else found

    def secret(self, value: object, keyword: str = "secret") -> Secret | None:
        """Check a secret that may be left out."""
        if value is None:
            return None
        from pytest_imagebuild.image.secret import Secret  # noqa: PLC0415 - few calls have one

        if isinstance(value, Secret):
            return value
        message = f"{keyword} must be a Secret, found {type(value).__name__}. Make one: Secret.from_dict({{...}})"
        raise self.error(message)

    def image_env(self, value: object) -> tuple[tuple[str, str], ...]:
        """Check the variables of `Image.env`, in the order given."""
        if not isinstance(value, Mapping):
            raise self.error(f"Image ENV variables must be a dict of strings, got {_shown(value)}")
        invalid = [name for name, content in value.items() if not isinstance(name, str) or not isinstance(content, str)]
        if invalid:
            raise self.error(f"Image ENV variables must be strings. Invalid keys: {invalid}")
        unusable = [name for name in value if not name or "=" in name or "\0" in name]
        if unusable:
            raise self.error(f"a variable needs a name without '=', got {unusable}")
        return tuple(value.items())

    def limit(self, read: Callable[[object], T], value: object) -> T:
        """Check a limit of resources, as `resources` reads it."""
        try:
            return read(value)
        except ValueError as error:
            raise self.error(str(error)) from None

    def gpu(self, value: object, *, fallbacks: bool = False) -> tuple[GpuRequest, ...]:
        """Check `gpu=`: what is asked for, the best first. `fallbacks` allows a list."""
        if value is None:
            return ()
        from pytest_imagebuild.image.gpu import read_gpus  # noqa: PLC0415 - few calls need it

        try:
            return read_gpus(value, fallbacks=fallbacks)
        except ValueError as problem:
            raise self.error(str(problem)) from None

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
