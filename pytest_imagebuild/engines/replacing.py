"""Small files that others may read at any moment: replaced in one step, so that nobody finds half of one."""

from __future__ import annotations

import uuid
from pathlib import Path

__all__ = ["replace_text"]


def replace_text(path: Path, text: str) -> None:
    """Write a file in UTF-8, in the place of one that may be there and stays where this fails. Raises OSError."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
