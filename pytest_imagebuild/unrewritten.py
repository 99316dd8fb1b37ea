"""Modules of this package come in as Python brings them.

pytest takes the package of a plugin for one with assertions to rewrite: it compiles each module by itself, and reads it
in a slower way than Python. There is nothing to rewrite in ours, of which a run with images imports a hundred.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

__all__ = ["import_as_python_does"]

_PACKAGE = f"{__package__}."


class _Finder:
    """A finder, as `sys.meta_path` has them."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a module of this package, None for others."""
        return PathFinder.find_spec(name, path, target) if name.startswith(_PACKAGE) else None


def import_as_python_does() -> None:
    """Look for modules of this package before pytest does. Calling it again does nothing."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
