"""The lockfile model: what definitions leave open, pinned. Frozen values; `build.lockstore` reads and writes files.

`imagebuild.lock` is TOML::

    version = 1

    [[base]]
    reference = "python:3.13-slim-trixie"
    platform = "linux/amd64"
    source = "registry"
    digest = "sha256:…"

    [[layer]]
    id = "…"                       # digest of the definition of this layer and of the layers below
    base = "python:3.13-slim-trixie"
    platform = "linux/amd64"
    tool = "pip"
    request = ["six"]

    [[layer.package]]
    name = "six"
    version = "1.17.0"
    hashes = ["sha256:…"]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pytest_imagebuild.errors import LockfileError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["VERSION", "BaseRecord", "LayerRecord", "Lockfile", "Pin", "normal_name"]

T = TypeVar("T")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ORDERED = ("micromamba",)
VERSION = 1
HEADER = "# Written by pytest-imagebuild. Commit this file; `imagebuild lock` updates it.\n"


def normal_name(name: str) -> str:
    """Return the form of a Python package's name in which two spellings of it are equal (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """One exact package.

    `hashes` are `sha256:…` (of a conda package also `md5:…`), empty where the index has none; `url` is set for direct
    references and for conda packages. A conda package without a version is one that is taken away.
    """

    name: str
    version: str
    architecture: str = ""
    url: str = ""
    hashes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return builtins, without what is empty."""
        full = {
            "name": self.name,
            "version": self.version,
            "architecture": self.architecture,
            "url": self.url,
            "hashes": list(self.hashes),
        }
        return {key: value for key, value in full.items() if value}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], path: str) -> Pin:
        """Build from `to_dict`'s form; `path` names the place in the file for errors."""
        return cls(
            name=_text(data, "name", path),
            version=_text(data, "version", path, default=""),
            architecture=_text(data, "architecture", path, default=""),
            url=_text(data, "url", path, default=""),
            hashes=_texts(data, "hashes", path),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseRecord:
    """What a base reference stands for on a platform (`linux/amd64`).

    `source` is `registry`, `bootstrap` or `local`.
    """

    reference: str
    platform: str
    source: str
    digest: str

    def to_dict(self) -> dict[str, Any]:
        """Return builtins."""
        return {
            "reference": self.reference,
            "platform": self.platform,
            "source": self.source,
            "digest": self.digest,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], path: str) -> BaseRecord:
        """Build from `to_dict`'s form."""
        return cls(**{key: _text(data, key, path) for key in ("reference", "platform", "source", "digest")})


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerRecord:
    """The exact packages of one install layer. `request` is what the definition asked for."""

    id: str
    base: str
    platform: str
    tool: str
    request: tuple[str, ...]
    packages: tuple[Pin, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return builtins; packages are sorted by name, but for those whose order says how they are installed."""
        by_name = sorted(self.packages, key=lambda pin: (pin.name, pin.architecture, pin.version))
        ordered = self.packages if self.tool in _ORDERED else by_name
        return {
            "id": self.id,
            "base": self.base,
            "platform": self.platform,
            "tool": self.tool,
            "request": list(self.request),
            "package": [pin.to_dict() for pin in ordered],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], path: str) -> LayerRecord:
        """Build from `to_dict`'s form."""
        packages = _tables(data, "package", path)
        return cls(
            id=_text(data, "id", path),
            base=_text(data, "base", path),
            platform=_text(data, "platform", path),
            tool=_text(data, "tool", path),
            request=_texts(data, "request", path),
            packages=tuple(Pin.from_dict(item, f"{path}.package[{n}]") for n, item in enumerate(packages)),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Lockfile:
    """All records, in the order in which they are written."""

    bases: tuple[BaseRecord, ...] = ()
    layers: tuple[LayerRecord, ...] = ()

    def base(self, reference: str, platform: str) -> BaseRecord | None:
        """Return the record of a base reference."""
        wanted = (reference, platform)
        return next((record for record in self.bases if (record.reference, record.platform) == wanted), None)

    def layer(self, identity: str, platform: str) -> LayerRecord | None:
        """Return the record of an install layer."""
        wanted = (identity, platform)
        return next((record for record in self.layers if (record.id, record.platform) == wanted), None)

    def with_base(self, record: BaseRecord) -> Lockfile:
        """Return a lockfile in which `record` replaces the one of its reference."""
        others = [item for item in self.bases if (item.reference, item.platform) != (record.reference, record.platform)]
        return replace(self, bases=tuple(sorted([*others, record], key=lambda item: (item.reference, item.platform))))

    def with_layer(self, record: LayerRecord) -> Lockfile:
        """Return a lockfile in which `record` replaces the one of its id."""
        others = [item for item in self.layers if (item.id, item.platform) != (record.id, record.platform)]
        ordered = sorted(
            [*others, record], key=lambda item: (item.base, item.platform, item.tool, item.request, item.id)
        )
        return replace(self, layers=tuple(ordered))

    def without(self, other: Lockfile) -> Lockfile:
        """Return a lockfile that lacks the records of `other`."""
        bases = {(item.reference, item.platform) for item in other.bases}
        layers = {(item.id, item.platform) for item in other.layers}
        return Lockfile(
            bases=tuple(item for item in self.bases if (item.reference, item.platform) not in bases),
            layers=tuple(item for item in self.layers if (item.id, item.platform) not in layers),
        )

    def preferences(self, wanted: LayerRecord, *, in_use: frozenset[str] = frozenset()) -> tuple[Pin, ...]:
        """Return the pins that a new resolution of `wanted` should keep where it can.

        They come from the record that `wanted` most likely replaces: its own; else, of those of the same tool, base
        and platform that are not `in_use`, the one that has most in common with what is asked for.
        """
        related = [
            (item.id == wanted.id, *_in_common(wanted, item), item.id, item.packages)
            for item in self.layers
            if (item.tool, item.base, item.platform) == (wanted.tool, wanted.base, wanted.platform)
            and (item.id == wanted.id or item.id not in in_use)
            and any(_in_common(wanted, item))
        ]
        return max(related)[-1] if related else ()

    def dumps(self) -> str:
        """Return the text of the file."""
        body: dict[str, Any] = {"version": VERSION}
        if self.bases:
            body["base"] = [record.to_dict() for record in self.bases]
        if self.layers:
            body["layer"] = [record.to_dict() for record in self.layers]
        import tomli_w  # noqa: PLC0415 - most runs write none

        return HEADER + tomli_w.dumps(body)

    @classmethod
    def loads(cls, text: str, name: str) -> Lockfile:
        """Read the text of a lockfile. `name` is the file's, for errors. Raises LockfileError."""
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise _corrupt(name, str(error)) from error
        version = data.get("version")
        if type(version) is not int:
            raise _corrupt(name, f"version is {version!r}, not a whole number")
        if version > VERSION:
            raise LockfileError(
                f"{name} has version {version}; this pytest-imagebuild reads versions up to {VERSION}. "
                "Upgrade pytest-imagebuild."
            )
        try:
            return cls(
                bases=_records(data, "base", BaseRecord.from_dict),
                layers=_records(data, "layer", LayerRecord.from_dict),
            )
        except _Fault as fault:
            raise _corrupt(name, str(fault)) from None


def _in_common(wanted: LayerRecord, record: LayerRecord) -> tuple[int, int]:
    """Count the requests that `record` has too, and the packages asked for that it pins."""
    names = {normal_name(match[0]) for text in wanted.request if (match := _NAME.match(text))}
    return len({*wanted.request} & {*record.request}), len(names & {pin.name for pin in record.packages})


class _Fault(Exception):
    """A value of the wrong shape; the message begins with its path in the file."""


def _corrupt(name: str, what: str) -> LockfileError:
    return LockfileError(
        f"{name} cannot be read: {what}. Restore it from version control, or delete it to resolve everything anew."
    )


def _records(data: Mapping[str, Any], key: str, build: Callable[[Mapping[str, Any], str], T]) -> tuple[T, ...]:
    return tuple(build(item, f"{key}[{n}]") for n, item in enumerate(_tables(data, key, "")))


def _tables(data: Mapping[str, Any], key: str, path: str) -> Sequence[Mapping[str, Any]]:
    value = data.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise _Fault(f"{path}.{key} is not an array of tables".lstrip("."))
    return value


def _text(data: Mapping[str, Any], key: str, path: str, default: str | None = None) -> str:
    value = data.get(key, default)
    if not isinstance(value, str):
        raise _Fault(f"{path}.{key} is missing" if value is None else f"{path}.{key} is {value!r}, not a string")
    return value


def _texts(data: Mapping[str, Any], key: str, path: str) -> tuple[str, ...]:
    value = data.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _Fault(f"{path}.{key} is not an array of strings")
    return tuple(value)
