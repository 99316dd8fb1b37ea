"""Turn what the disk refuses into our errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_imagebuild.errors import EngineError, disk_is_full

__all__ = ["disk_errors"]


@contextmanager
def disk_errors(doing: str, folder: Path) -> Iterator[None]:
    """Raise an OSError as an EngineError that says what was being done, and what helps."""
    try:
        yield
    except OSError as error:
        said = error.strerror or str(error)
        where = f" ({error.filename})" if error.filename else ""
        helps = (
            "Free some (`imagebuild prune` removes what no image needs), or set IMAGEBUILD_CACHE_DIR to a larger disk"
            if disk_is_full(error)
            else "Look at `imagebuild doctor`"
        )
        raise EngineError(f"the embedded engine could not {doing} in {folder}: {said}{where}. {helps}.") from error
