"""The `with image.imports():` block: imports that only need to work inside the image."""

from __future__ import annotations

import os
import warnings
from types import TracebackType

__all__ = ["IMAGE_VARIABLE", "ImportsBlock"]

IMAGE_VARIABLE = "IMAGEBUILD_IMAGE"
"""The environment variable that names, in a container, the `definition` of the image that it runs."""


class ImportsBlock:
    """A context manager: exceptions in the block are raised in a container of the image, and swallowed elsewhere."""

    __slots__ = ("_definition",)

    def __init__(self, definition: str) -> None:
        self._definition = definition

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not isinstance(problem, Exception) or os.environ.get(IMAGE_VARIABLE) == self._definition:
            return False
        if not isinstance(problem, ImportError):
            message = f"caught a non-ImportError exception in an `imports()` block: {problem!r}"
            warnings.warn(message, UserWarning, stacklevel=2)
        return True
