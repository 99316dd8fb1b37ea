"""A call of `run_function`, planned: what decides its layer, and what the container is lent for it."""

from __future__ import annotations

import inspect
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from typing import cast

from pytest_imagebuild.errors import DefinitionError, SourceLocation
from pytest_imagebuild.image.function_call import CallFunction
from pytest_imagebuild.plan.code import CodeIdentity
from pytest_imagebuild.plan.origin import Origin, origin_of

__all__ = ["PlannedFunction", "plan_function"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedFunction:
    """A function to be called in a container of the layer below.

    `code` is the digest of what decides what a call does, `image` the definition of the image that it runs in.
    """

    call: CallFunction
    origin: Origin = field(repr=False)
    code: str
    image: str


def plan_function(call: CallFunction, image: str, where: SourceLocation | None) -> PlannedFunction:
    """Read the source of a function. Raises DefinitionError at the user's line where it has none.

    A constant whose value cannot be taken gives a warning at that line.
    """
    inner = cast("types.FunctionType", inspect.unwrap(call.function))
    origin = origin_of(inner)
    if not origin.file.is_file():
        message = (
            f"run_function: the source of {call.name} cannot be read from {call.path}. Define it in a Python file, "
            "which is imported in the container"
        )
        raise DefinitionError(message, where=where)
    _check_name(call, inner, where)
    code = CodeIdentity(call.function, origin)
    for name, reason in code.skipped:
        _warn(call, name, reason, where)
    return PlannedFunction(call=call, origin=origin, code=code.digest, image=image)


def _check_name(call: CallFunction, inner: types.FunctionType, where: SourceLocation | None) -> None:
    """Raise for a function that an import of its module does not give under its name."""
    found = _found(inner)
    if found is None:
        message = (
            f"run_function: {call.file} has no {call.name} at its top level. In the container the file is imported and "
            "the function taken from it by its name"
        )
        raise DefinitionError(message, where=where)
    other = inspect.unwrap(found)
    if isinstance(other, types.FunctionType) and other.__code__ is not inner.__code__:
        message = (
            f"run_function: {call.name} is another function by the end of {call.file}, where line "
            f"{other.__code__.co_firstlineno} defines it anew. Give one of the two another name"
        )
        raise DefinitionError(message, where=where)


def _found(inner: types.FunctionType) -> Callable[..., object] | None:
    first, *rest = inner.__qualname__.split(".")
    found: Callable[..., object] | None = reduce(
        lambda value, name: getattr(value, name, None), rest, inner.__globals__.get(first)
    )
    return found if callable(found) else None


def _warn(call: CallFunction, name: str, reason: str, where: SourceLocation | None) -> None:
    message = (
        f"run_function: {call.name} refers to {name.rstrip(' =')}, whose value cannot be part of the layer's "
        f"key: {reason}. "
        "When it changes, nothing is built anew"
    )
    try:
        if where is None:
            warnings.warn(message, UserWarning, stacklevel=2)
        else:
            warnings.warn_explicit(message, UserWarning, where.file, where.line)
    except UserWarning as warning:  # the user's filters make an error of it
        raise DefinitionError(str(warning), where=where) from None
