"""The call of a Python function in a container, and the checks of what `run_function` is given.

Here it is described only: its file is read, and what its code depends on is found, when the image is planned.
"""

from __future__ import annotations

import functools
import inspect
import os
import pickle
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_imagebuild.image.builder import Builder
from pytest_imagebuild.image.calls import ChainCall
from pytest_imagebuild.image.canonical import digest
from pytest_imagebuild.image.step import BaseInstruction
from pytest_imagebuild.image.values import NoFormError, form_of

__all__ = ["CallFunction", "checked_arguments", "checked_function", "checked_timeout", "file_of"]

MOST_ARGUMENTS = 2 * 1024 * 1024
"""Bytes that pickled arguments may have, as in the reference."""

_PICKLE_PROTOCOL = 4
_PRESENTATION = {"presentation": True}


@dataclass(frozen=True, kw_only=True, slots=True)
class CallFunction(BaseInstruction):
    """Call a function, as root, in a container of the layer below.

    `file` is the name of the file that defines it, without folders, and `name` the function's in it; `arguments` is the
    digest of what it is called with. These three are the identity, the same on the host and in a container, where the
    file may lie elsewhere. `path` tells apart two files of one name in a process: two `conftest.py`.

    `payload` is the pickled pair of positional and keyword arguments, empty for none; `memory` is in bytes, `cpu` in
    cores, `timeout` in seconds.
    """

    file: str
    name: str
    arguments: str = ""
    path: str = field(default="", metadata=_PRESENTATION)
    include_source: bool = field(default=True, metadata=_PRESENTATION)
    cpu: float | None = field(default=None, metadata=_PRESENTATION)
    memory: int | None = field(default=None, metadata=_PRESENTATION)
    timeout: float | None = field(default=None, metadata=_PRESENTATION)
    function: Callable[..., object] = field(compare=False, repr=False, metadata=_PRESENTATION)
    payload: bytes = field(default=b"", compare=False, repr=False, metadata=_PRESENTATION)

    @property
    def shown(self) -> str:
        """Name the function for people."""
        return f"{self.file}: {self.name}()"

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give no line: a Dockerfile has no words for it."""
        return ()


def checked_function(call: ChainCall, function: object) -> types.FunctionType:
    """Return the function that the user wrote, below its decorators. Raises DefinitionError for what is none."""
    if isinstance(function, functools.partial):
        message = "it takes a function, not a functools.partial. Pass the function itself, with args= and kwargs="
        raise call.error(message)
    if not callable(function):
        raise call.error(f"it takes a function, not {_article(type(function).__name__)}")
    if isinstance(function, types.MethodType):
        message = (
            f"it takes a function, not the bound method {function.__qualname__}. "
            "Write a function at the top level of the module that calls it"
        )
        raise call.error(message)
    inner = inspect.unwrap(function)
    if not isinstance(inner, types.FunctionType):
        raise call.error(_not_a_function(function))
    if inner.__name__ == "<lambda>":
        raise call.error("it does not take lambda functions. Give the function a name with def, at the top level")
    if "<locals>" in inner.__qualname__:
        message = (
            f"it does not take nested functions, and {inner.__qualname__.replace('.<locals>', '')} is one. In the "
            "container it is imported by its name: define it at the top level of a module"
        )
        raise call.error(message)
    return inner


def _not_a_function(value: object) -> str:
    if isinstance(value, type):
        return f"it takes a function, not the class {value.__qualname__}"
    if isinstance(value, types.BuiltinFunctionType):
        return f"it takes a function of a Python file, and {value.__qualname__} is built in. Call it in one of yours"
    return (
        f"it takes a function, not an instance of {type(value).__qualname__}. "
        "Write a function at the top level of the module that calls it"
    )


def checked_arguments(call: ChainCall, args: object, kwargs: object) -> tuple[bytes, str]:
    """Return the pickled arguments and their digest, both empty for none. They are as they were at the call."""
    if isinstance(args, (str, bytes)) or not isinstance(args, Sequence):
        raise call.error(f"args must be a tuple of arguments, got {args!r} ({type(args).__name__})")
    named = {} if kwargs is None else kwargs
    if not isinstance(named, Mapping) or not all(isinstance(name, str) for name in named):
        raise call.error(f"kwargs must be a dict of arguments by their names, got {kwargs!r}")
    if not args and not named:
        return b"", ""
    pair = (tuple(args), dict(sorted(named.items())))
    payload = _pickled(call, pair)
    if len(payload) > MOST_ARGUMENTS:
        message = (
            f"its arguments take {len(payload)} bytes when they are serialized, more than 2 MiB. "
            "Put large values into a file and add it with add_local_file(..., copy=True)"
        )
        raise call.error(message)
    try:
        return payload, digest(form_of(pair))
    except NoFormError as error:
        raise call.error(f"its arguments cannot be serialized: {error}") from error


def _pickled(call: ChainCall, pair: Any) -> bytes:
    try:
        return pickle.dumps(pair, protocol=_PICKLE_PROTOCOL)
    except Exception as error:
        raise call.error(f"its arguments cannot be serialized: {error}") from error


def checked_timeout(call: ChainCall, value: object) -> float | None:
    """Check a number of seconds; None is no limit."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise call.error(f"timeout takes a number of seconds above 0, found {value!r}")
    return float(value)


def file_of(function: types.FunctionType) -> tuple[str, str]:
    """Return the name and the path of the file that defines a function, as its code says."""
    path = function.__code__.co_filename
    return os.path.basename(path), path  # noqa: PTH119 - a path as text, which names nothing on this machine yet


def _article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
