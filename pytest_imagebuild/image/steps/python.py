"""Python for an image: which series there are, and a standalone one that is put into it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_imagebuild.errors import DefinitionError, SourceLocation
from pytest_imagebuild.image.step import BaseInstruction
from pytest_imagebuild.image.steps.variables import SetEnv

if TYPE_CHECKING:
    from pytest_imagebuild.image.builder import Builder
    from pytest_imagebuild.image.instructions import Instruction
    from pytest_imagebuild.image.step import Step

__all__ = ["AddPython", "offered_python", "standalone_python"]

_PYTHON_VERSION = re.compile(r"(3\.[0-9]{1,2})(?:\.[0-9]{1,2})?(?:rc[0-9]+)?(t?)")
_TERMINFO = "/etc/terminfo:/lib/terminfo:/usr/share/terminfo:/usr/lib/terminfo"


@dataclass(frozen=True, kw_only=True, slots=True)
class AddPython(BaseInstruction):
    """Put a standalone CPython of a full version ("3.13.17", "3.14.9t") into `/usr/local`."""

    version: str

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `COPY` of a context that holds that Python."""
        return ("COPY /python/. /usr/local",)


def standalone_python(asked: str, builder: Builder, where: SourceLocation | None) -> tuple[Instruction, ...]:
    """Give what adds a Python to an image. Raises `DefinitionError` for what the builder version does not offer."""
    offered = builder.standalone_python
    if asked in offered:
        return (AddPython(version=offered[asked]), SetEnv(variables=(("TERMINFO_DIRS", _TERMINFO),)))
    match = _PYTHON_VERSION.fullmatch(asked)
    if match is None:
        message = f"Invalid Python version: {asked!r}. Write a series, as add_python={list(offered)[-1]!r}."
    elif asked not in (match[1], match[1] + match[2]):
        series = match[1] + match[2]
        message = (
            "The Python version must be specified as 'major.minor' for this interface; micro-level specification "
            f"({asked!r}) is not valid. Write add_python={series!r}."
        )
    else:
        message = (
            f"Unsupported Python version: {asked!r}. When using the {builder.version!r} Image builder, add_python "
            f"supports the following series: {list(offered)}."
        )
    raise DefinitionError(message, where=where)


def offered_python(step: Step, asked: str | None, factory: str, builder: Builder, local_python: str) -> str:
    """Give the version that is asked for. Raises `DefinitionError` for what the builder version does not offer."""
    version = local_python if asked is None else asked
    match = _PYTHON_VERSION.fullmatch(version)
    offered = list(builder.python_series)
    advice = f'Name one of them: Image.{factory}("{offered[-1]}").'
    if match is None:
        message = (
            f"Invalid Python version: {version!r}. Write a series ({offered[-1]!r}) or a full version "
            f"({offered[-1] + '.1'!r})."
        )
        raise DefinitionError(message, where=step.where)
    series, free_threaded = match.groups()
    if free_threaded:
        message = (
            f"Free threaded Python is not supported with Image.{factory}, "
            f"but the version asked for is {version!r}. {advice}"
        )
        raise DefinitionError(message, where=step.where)
    if series not in offered:
        origin = "" if asked is not None else " (that of the Python which runs pytest)"
        message = (
            f"Unsupported Python version: {version!r}{origin}. When using the {builder.version!r} Image builder, "
            f"Image.{factory} supports the following series: {offered}. {advice}"
        )
        raise DefinitionError(message, where=step.where)
    return version
