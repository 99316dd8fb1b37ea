"""The one canonical encoder: the same value gives the same bytes, on every machine and Python.

What it writes is JSON, so that two encodings can be compared by people. Every kind of value has a form of its own, so
two different values never share their bytes:

    str, int, bool, None    as JSON has them
    tuple                   an array
    mapping                 {"map": {key: value, ...}}, sorted by key
    dataclass               {"type": NAME, "with": {field: value, ...}}, sorted by field name

Left out are fields of presentation (`compare=False`, or metadata `presentation`), and fields that have their default:
a field that is added later, with a default that means "as before", changes no key. In a field whose metadata says
`opaque_unless: T`, whatever is no T is a constant: a callable, whose effect shows in the files that it lets through.
The fields of a dataclass in a field with `INLINE` are written as if they were fields of the one that holds it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["INLINE", "digest", "encode"]

INLINE: Mapping[str, bool] = MappingProxyType({"inline": True})
"""The metadata of a field whose value is written as fields of the dataclass that holds it."""

_OPAQUE = {"opaque": True}
_ENCODER = json.JSONEncoder(ensure_ascii=True, sort_keys=True, separators=(",", ":"))


def encode(value: object) -> bytes:
    """Write a value as canonical bytes (ASCII); raise `TypeError` for a type that has no canonical form."""
    return _ENCODER.encode(_plain(value)).encode("ascii")


def digest(value: object) -> str:
    """Give the sha256 of `encode(value)`, as 64 hexadecimal digits."""
    return hashlib.sha256(encode(value)).hexdigest()


def _plain(value: object) -> object:
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            message = f"a mapping with keys other than strings has no canonical form: {value!r}"
            raise TypeError(message)
        return {"map": {key: _plain(item) for key, item in value.items()}}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"type": type(value).__name__, "with": _fields(value)}
    message = f"{type(value).__name__} has no canonical form: {value!r}"
    raise TypeError(message)


def _fields(value: object) -> dict[str, object]:
    plain: dict[str, object] = {}
    for field in _written(type(value)):  # type: ignore[arg-type]  # every class can be hashed
        content = getattr(value, field.name)
        if _is_default(field, content):
            continue
        if field.metadata.get("inline"):
            plain.update(_fields(content))
            continue
        transparent = isinstance(content, field.metadata.get("opaque_unless", object))
        plain[field.name] = _plain(content) if transparent else _OPAQUE
    return plain


@functools.cache
def _written(kind: type) -> tuple[dataclasses.Field[object], ...]:
    """Return the fields of a dataclass that are written, unless they have their default."""
    return tuple(
        field for field in dataclasses.fields(kind) if field.compare and not field.metadata.get("presentation")
    )


def _is_default(field: dataclasses.Field[object], content: object) -> bool:
    return type(content) is type(field.default) and content == field.default
