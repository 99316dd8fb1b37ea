"""Values of Python in a form that `canonical` can write: the arguments of a function, and the constants that it reads.

The form is made of what a value is, never of what pickle writes: pickle's bytes depend on which equal strings are one
object and on the order of sets. A value of a type that has no form here is what it is rebuilt of (`__reduce_ex__` of
protocol 4). Sets are sorted; dicts keep their order, because a function can see it.
"""

from __future__ import annotations

import enum
import hashlib
import types
from collections.abc import Callable
from pathlib import PurePath

from pytest_imagebuild.image.canonical import encode

__all__ = ["Named", "NoFormError", "form_of"]

_PROTOCOL = 4

Named = Callable[[object], object]
"""Gives the form of a function or a class, which a value refers to by its name."""


class NoFormError(TypeError):
    """A value cannot be written: it holds a lock, an open file, a nested function."""


def form_of(value: object, named: Named | None = None) -> object:
    """Return the form of a value: tuples, texts, numbers and None. Raises NoFormError."""
    try:
        return _Former(named or name_of).form(value)
    except RecursionError as error:
        message = "it is nested too deeply"
        raise NoFormError(message) from error


def name_of(value: object) -> object:
    """Return the form of a function or a class: its module and its name in it. Raises NoFormError."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(name, str) or "<" in name:
        message = f"{value!r} is not at the top level of a module"
        raise NoFormError(message)
    return ("name", module if isinstance(module, str) else "", name)


class _Former:
    def __init__(self, named: Named) -> None:
        self._named = named
        self._open: dict[int, int] = {}

    def form(self, value: object) -> object:
        if value is None or type(value) in (bool, int, str):
            return value
        if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
            return self._named(value)
        flat = _flat(value)
        if flat is not None:
            return flat
        if id(value) in self._open:
            return ("again", self._open[id(value)])
        self._open[id(value)] = len(self._open)
        try:
            return self._container(value)
        finally:
            del self._open[id(value)]

    def _container(self, value: object) -> object:
        if type(value) in (list, tuple):
            return (type(value).__name__, *map(self.form, value))  # type: ignore[call-overload]  # it is one of the two
        if type(value) in (set, frozenset):
            return (type(value).__name__, *sorted(map(self.form, value), key=encode))  # type: ignore[call-overload]
        if isinstance(value, dict) and type(value) is dict:
            return ("dict", *((self.form(key), self.form(item)) for key, item in value.items()))
        if isinstance(value, enum.Enum):
            return ("enum", self.form(type(value)), value.name)
        return self._rebuilt(value)

    def _rebuilt(self, value: object) -> object:
        try:
            parts = value.__reduce_ex__(_PROTOCOL)
        except RecursionError:
            raise
        except Exception as error:  # it is the code of any class
            message = f"a {type(value).__name__} cannot be written: {error}"
            raise NoFormError(message) from error
        if isinstance(parts, str):
            return ("global", getattr(value, "__module__", None), parts)
        made, arguments, state, items, pairs = (*parts, None, None, None)[:5]
        return (
            "object",
            self.form(made),
            self.form(arguments),
            self.form(state),
            None if items is None else tuple(map(self.form, items)),
            None if pairs is None else tuple((self.form(key), self.form(item)) for key, item in pairs),
        )


def _flat(value: object) -> tuple[object, ...] | None:
    """Return the form of a value that holds no others, None for one that may."""
    if type(value) in (float, complex):
        return ("number", repr(value))
    if isinstance(value, (bytes, bytearray)):
        return (type(value).__name__, len(value), hashlib.sha256(value).hexdigest())
    if isinstance(value, types.ModuleType):
        return ("module", value.__name__)
    if isinstance(value, PurePath):
        # Python 3.12 and 3.13 rebuild it of different parts.
        return ("path", type(value).__name__, str(value))
    return None
