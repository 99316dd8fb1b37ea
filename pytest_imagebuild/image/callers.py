"""Where the user wrote the call that this package is in."""

from __future__ import annotations

import sys

from pytest_imagebuild.errors import SourceLocation

__all__ = ["callers_line"]

_PACKAGE = __name__.partition(".")[0]


def callers_line() -> SourceLocation | None:
    """Give the line of the innermost frame that is not of this package."""
    frame = sys._getframe(1)  # noqa: SLF001 - the documented way, and the only one that costs a microsecond
    while frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return SourceLocation(file=frame.f_code.co_filename, line=frame.f_lineno)
