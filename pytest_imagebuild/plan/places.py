"""Where things lie in a container."""

from __future__ import annotations

__all__ = ["SOURCE_ROOT"]

SOURCE_ROOT = "/root"
"""Where `add_local_python_source` puts modules; importable in tests."""
