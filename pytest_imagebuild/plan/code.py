"""The identity of a function: all of the user's own code and constants that decide what a call of it does.

It holds the source of the function, of the functions and classes of the same file or package that it refers to, and so
on; the values of the constants that these refer to; the names of what is not one's own. What is not referred to stays
outside, so it can change without a rebuild.
"""

from __future__ import annotations

import inspect
import itertools
import sys
import textwrap
import types
from collections.abc import Callable, Mapping
from pathlib import Path

from pytest_imagebuild.image.canonical import digest
from pytest_imagebuild.image.chain import Image
from pytest_imagebuild.image.values import NoFormError, form_of
from pytest_imagebuild.plan.origin import Origin
from pytest_imagebuild.plan.references import References, references, references_of_code

__all__ = ["CodeIdentity"]

_MISSING = object()
_OF_IMPORT = {"__file__", "__path__", "__name__", "__package__", "__spec__", "__loader__", "__cached__", "__builtins__"}
"""What the import system sets in a module: other values in the container, and no part of what the user wrote."""


class CodeIdentity:
    """What was found, walking from one function. `skipped` names the constants whose value could not be taken."""

    def __init__(self, function: Callable[..., object], origin: Origin) -> None:
        self.skipped: list[tuple[str, str]] = []
        self._origin = origin
        self._parts: dict[str, object] = {}
        self._codes: dict[str, types.CodeType] = {}
        self._parts["called"] = self._named(function)

    @property
    def digest(self) -> str:
        """The sha256 of all that was found, as 64 hexadecimal digits."""
        return digest(dict(sorted(self._parts.items())))

    @property
    def parts(self) -> tuple[str, ...]:
        """What entered: `file.py:name` for code and constants, sorted."""
        return tuple(sorted(self._parts))

    def _named(self, value: object) -> object:
        """Take in a function or class if it is the user's own; return what stands for it in a value."""
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        wrapped = getattr(value, "__wrapped__", None)
        if wrapped is not None:
            return ("wrapper", type(value).__name__, self._named(wrapped))
        return ("name", str(getattr(value, "__module__", "")), str(getattr(value, "__qualname__", value)))

    def _function(self, function: types.FunctionType) -> object:
        code = function.__code__
        place = self._origin.place(code.co_filename)
        if place is None:
            return ("name", function.__module__, function.__qualname__)
        label = self._label(place, function)
        if label not in self._parts:
            text = _source(code)
            self._parts[label] = text
            self._follow(place, text, code, _Scope(function), function.__module__)
            self._value(f"{label} defaults", (function.__defaults__, function.__kwdefaults__))
            wrapped = getattr(function, "__wrapped__", None)
            if wrapped is not None:
                self._named(wrapped)
        return ("own", label)

    def _label(self, place: str, function: types.FunctionType) -> str:
        """Return a name that no other function has: wrappers are called as what they wrap, and lambdas all alike."""
        name = f"{place}:{function.__qualname__}"
        for number in itertools.count():
            label = f"{name} #{number}" if number else name
            if self._codes.setdefault(label, function.__code__) is function.__code__:
                return label
        raise AssertionError("numbers do not end")

    def _class(self, cls: type) -> object:
        module = sys.modules.get(cls.__module__)
        place = self._origin.place(getattr(module, "__file__", None))
        if place is None or module is None:
            return ("name", cls.__module__, cls.__qualname__)
        label = f"{place}:{cls.__qualname__}"
        if label not in self._parts:
            try:
                text = textwrap.dedent(inspect.getsource(cls))
            except (OSError, TypeError):
                # It was made by a call, as a namedtuple is.
                text = ""
            self._parts[label] = text
            self._follow(place, text, None, vars(module), cls.__module__)
        return ("own", label)

    def _follow(
        self, place: str, text: str, code: types.CodeType | None, values: Mapping[str, object], module: str
    ) -> None:
        """Take in what a piece of source refers to."""
        found = _references(text, code)
        for chain in found.chains:
            value = values.get(chain[0], _MISSING)
            if value is not _MISSING and chain[0] not in _OF_IMPORT:
                self._reference(place, chain, value)
        for one in found.imports:
            self._import(one.module, one.name, one.level, module)

    def _reference(self, place: str, chain: tuple[str, ...], value: object) -> None:
        name, *attributes = chain
        if isinstance(value, types.ModuleType):
            self._module_attribute(value, attributes)
        elif isinstance(value, (types.FunctionType, type)) or _is_wrapper(value):
            self._parts.setdefault(f"{place}:{name} =", self._named(value))
        else:
            self._value(f"{place}:{name} =", value)

    def _module_attribute(self, module: types.ModuleType, attributes: list[str]) -> None:
        file = getattr(module, "__file__", None)
        place = self._origin.place(file)
        if place is None:
            self._parts.setdefault(f"module {module.__name__}", True)
        elif not attributes or not hasattr(module, attributes[0]):
            self._file(Path(str(file)), module.__name__)
        else:
            self._reference(place, tuple(attributes), getattr(module, attributes[0]))

    def _value(self, label: str, value: object) -> None:
        if label in self._parts:
            return
        self._parts[label] = None
        if isinstance(value, Image):
            self._parts[label] = ("image", value.definition)
            return
        try:
            self._parts[label] = form_of(value, self._named)
        except NoFormError as error:
            self.skipped.append((label, str(error)))
            self._parts[label] = ("skipped", type(value).__qualname__)

    def _import(self, module: str, name: str | None, level: int, within: str) -> None:
        """Take in what an import inside a function brings, if it is the user's own: it need not be loaded here."""
        absolute = _absolute(module, level, within, is_package=self._is_package(within))
        if name is not None:
            below = f"{absolute}.{name}" if absolute else name
            if self._origin.find(below) is not None:
                absolute, name = below, None
        file = self._origin.find(absolute)
        if file is None:
            return
        loaded = sys.modules.get(absolute)
        if name is not None and loaded is not None and hasattr(loaded, name):
            self._module_attribute(loaded, [name])
        else:
            self._file(file, absolute)

    def _file(self, file: Path, module: str) -> None:
        """Take in a whole file, and what it imports of the user's own."""
        label = f"{self._origin.place(str(file))}:"
        if label in self._parts:
            return
        try:
            text = file.read_text("utf-8", errors="surrogateescape")
        except OSError:
            text = ""
        self._parts[label] = text
        for one in _references(text, None).imports:
            self._import(one.module, one.name, one.level, module)

    def _is_package(self, module: str) -> bool:
        file = self._origin.find(module)
        return file is not None and file.name == "__init__.py"


class _Scope(dict[str, object]):
    """The values that the names of a function stand for: of its closure, else of its module."""

    def __init__(self, function: types.FunctionType) -> None:
        super().__init__(function.__globals__)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            try:
                self[name] = cell.cell_contents
            except ValueError:  # it is empty yet
                self.pop(name, None)


def _is_wrapper(value: object) -> bool:
    """Say whether a callable stands for a function, as that of functools.lru_cache does."""
    return callable(value) and isinstance(getattr(value, "__wrapped__", None), types.FunctionType)


def _source(code: types.CodeType) -> str:
    try:
        return textwrap.dedent(inspect.getsource(code))
    except (OSError, TypeError):
        return ""


def _references(text: str, code: types.CodeType | None) -> References:
    try:
        return references(text)
    except (SyntaxError, ValueError):
        return references_of_code(code) if code is not None else References((), ())


def _absolute(module: str, level: int, within: str, *, is_package: bool) -> str:
    """Return the full name of what an import with `level` dots in the module `within` names."""
    if not level:
        return module
    parts = within.split(".")
    drop = level - 1 if is_package else level
    base = parts[: len(parts) - drop] if drop else parts
    return ".".join([*base, *([module] if module else [])])
