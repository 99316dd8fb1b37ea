"""The `with image.imports():` block: imports that only need to work inside the image."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from pytest_imagebuild.image.callers import callers_line

if TYPE_CHECKING:
    from pytest_imagebuild.errors import SourceLocation

__all__ = ["IMAGE_VARIABLE", "ImportsBlock", "Swallowed", "swallowed"]

IMAGE_VARIABLE = "IMAGEBUILD_IMAGE"
"""The environment variable that names, in a container, the `definition` of the image that it runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Swallowed:
    """An exception that a block has swallowed. `where` is the line of the block."""

    error: Exception
    where: SourceLocation | None

    def __str__(self) -> str:
        return f"the imports() block at {self.where} failed here: {type(self.error).__name__}: {self.error}"


# By the definition of the image and the line of the block, so that a module which is imported again adds nothing.
_swallowed: dict[tuple[str, SourceLocation | None], Swallowed] = {}
# What a block of the running image lets through is nobody else's to swallow: no block around it does.
_let_through: list[BaseException] = []


def swallowed(definition: str = "") -> tuple[Swallowed, ...]:
    """Return what the blocks of an image have swallowed in this process, those of every image without a definition."""
    return tuple(one for (image, _), one in _swallowed.items() if definition in ("", image))


class ImportsBlock:
    """A context manager: exceptions in the block are raised in a container of the image, and swallowed elsewhere."""

    __slots__ = ("_definition", "_where")

    def __init__(self, definition: str) -> None:
        self._definition = definition
        self._where: SourceLocation | None = None

    def __enter__(self) -> None:
        self._where = callers_line()

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not isinstance(problem, Exception) or any(problem is known for known in _let_through):
            return False
        if os.environ.get(IMAGE_VARIABLE) == self._definition:
            _let_through[:] = [problem]
            return False
        if not isinstance(problem, ImportError):
            message = f"caught a non-ImportError exception in an `imports()` block: {problem!r}"
            warnings.warn(message, UserWarning, stacklevel=2)
        # Its frames hold the whole module, and nobody will read them.
        _swallowed[self._definition, self._where] = Swallowed(error=problem.with_traceback(None), where=self._where)
        return True
