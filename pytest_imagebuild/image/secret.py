"""`Secret`: variables whose values nothing may show. It describes where they come from and reads nothing.

A test module is imported in containers too, where neither the file nor the variable exists, so that only the build or
the session that needs the values reads them, on the host (`plan/secret_values.py`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal

from pytest_imagebuild.errors import DefinitionError, SourceLocation
from pytest_imagebuild.image.callers import callers_line

__all__ = ["Kind", "RegistrySecret", "RegistryService", "Secret"]

Kind = Literal["dict", "environ", "dotenv", "name"]
RegistryService = Literal["", "aws", "gcp"]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Secret:
    """Environment variables for steps and tests, made by one of the methods `from_...`.

    Values enter no layer, key, lockfile, log or report. Two secrets are equal when they come from the same place and
    give the same names, whatever the values are.
    """

    kind: Kind
    names: tuple[str, ...] = ()
    """The variables, sorted, as far as they are known before the values are read."""
    origin: str = ""
    """The same on every machine: the name, or the relative path of the file."""
    path: str = field(default="", metadata={"presentation": True})
    filename: str = field(default="", metadata={"presentation": True})
    required: tuple[str, ...] = field(default=(), metadata={"presentation": True})
    held: tuple[tuple[str, str], ...] = field(default=(), compare=False, metadata={"presentation": True})
    where: SourceLocation | None = field(default=None, compare=False, metadata={"presentation": True})

    @classmethod
    def from_dict(cls, env_dict: Mapping[str, str | None] = {}) -> Secret:
        """Take names and values. None drops a name."""
        rule = "the env_dict argument has to be a dict[str, Union[str, None]]"
        given: object = env_dict
        if not isinstance(given, Mapping):
            raise _error("from_dict", f'{rule}, got {type(given).__name__}. Write {{"NAME": "value"}}')
        for name, value in given.items():
            if not isinstance(name, str):
                raise _error("from_dict", f"{rule}, a key has type {type(name).__name__}")
            if value is not None and not isinstance(value, str):
                raise _error("from_dict", f"{rule}, value for key {name!r} has type {type(value).__name__}")
        held = tuple(sorted((name, value) for name, value in env_dict.items() if value is not None))
        return cls(kind="dict", names=tuple(name for name, _ in held), held=held, where=callers_line())

    @classmethod
    def from_local_environ(cls, env_keys: list[str]) -> Secret:
        """Take these variables from the environment of pytest, all of which must be set there when they are needed."""
        names = _names("from_local_environ", "env_keys", env_keys)
        return cls(kind="environ", names=names, where=callers_line())

    @classmethod
    def from_dotenv(cls, path: str | os.PathLike[str] | None = None, *, filename: str = ".env") -> Secret:
        """Take all variables of the nearest file `filename`, in `path` or a folder above it.

        `path` is a folder, or a file whose folder is meant (`__file__`); without it, the search begins in the working
        directory. A relative path is relative to that.
        """
        start: object = path
        if start is not None and not isinstance(start, (str, os.PathLike)):
            raise _error("from_dotenv", f"path must be a string or a path, got {start!r} ({type(start).__name__})")
        named: object = filename
        if not isinstance(named, str) or not named:
            raise _error("from_dotenv", f"filename must be a non-empty string, got {named!r}")
        place = "" if path is None else os.fspath(path)
        # An absolute path differs between machines.
        anywhere = PurePath(place).is_absolute() or place.startswith("~")
        same_everywhere = "" if anywhere else PurePath(place).as_posix()
        origin = PurePath(same_everywhere, filename).as_posix()
        return cls(kind="dotenv", origin=origin, path=place, filename=filename, where=callers_line())

    @classmethod
    def from_name(
        cls, name: str, *, environment_name: str | None = None, required_keys: list[str] | tuple[str, ...] = ()
    ) -> Secret:
        """Take the variables that the user's secrets file holds under `name`; `required_keys` must be among them.

        With `environment_name`, it is the entry "environment_name/name".
        """
        arguments: dict[str, object] = {"name": name, "environment_name": environment_name or ""}
        for argument, text in arguments.items():
            if not isinstance(text, str):
                raise _error("from_name", f"{argument} must be a string, got {text!r} ({type(text).__name__})")
        if not name:
            raise _error("from_name", "name must not be empty")
        origin = f"{environment_name}/{name}" if environment_name else name
        required = _names("from_name", "required_keys", required_keys)
        return cls(kind="name", origin=origin, required=required, where=callers_line())

    def __repr__(self) -> str:
        return f"Secret.{self.describe()}"

    def describe(self) -> str:
        """Give the call in the user's own words, without values."""
        match self.kind:
            case "dict":
                pairs = ", ".join(f'{json.dumps(name)}: "***"' for name in self.names)
                return f"from_dict({{{pairs}}})"
            case "environ":
                return f"from_local_environ({json.dumps(list(self.names))})"
            case "dotenv":
                path = json.dumps(self.path) if self.path else ""
                named = "" if self.filename == ".env" else f"filename={json.dumps(self.filename)}"
                return f"from_dotenv({', '.join(filter(None, (path, named)))})"
            case "name":
                environment, _, name = self.origin.rpartition("/")
                named = f", environment_name={json.dumps(environment)}" if environment else ""
                return f"from_name({json.dumps(name)}{named})"


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistrySecret:
    """What the registry of a base image asks for. `service` is `aws` or `gcp` where the chain call says it."""

    secret: Secret
    service: RegistryService = ""


def _names(method: str, argument: str, given: object) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, (list, tuple)):
        raise _error(method, f"{argument} must be a list of strings, got {type(given).__name__}")
    for name in given:
        if not isinstance(name, str):
            raise _error(method, f"{argument} must only contain strings, got {name!r} ({type(name).__name__})")
    return tuple(sorted(set(given)))


def _error(method: str, message: str) -> DefinitionError:
    return DefinitionError(f"Secret.{method}: {message}", where=callers_line())
