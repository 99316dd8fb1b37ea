"""What is the same beside every engine is found out once, whichever xdist worker comes first."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

__all__ = ["once"]

T = TypeVar("T")


def once(shelf: Path, name: object, find: Callable[[], T]) -> T:
    """Return what `find` returned for whoever asked first for this `name`, a value of plain types.

    It is kept on the `shelf`, a folder that all xdist workers share.
    """
    kept = shelf / f"once-{hashlib.sha256(repr(name).encode()).hexdigest()}"
    with FileLock(f"{kept}.lock"):
        if not kept.exists():
            kept.write_bytes(pickle.dumps(find()))
        found: T = pickle.loads(kept.read_bytes())
    return found
