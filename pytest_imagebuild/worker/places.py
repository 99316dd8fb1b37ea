"""Where an engine puts what copies of the worker need. Runs in the container: imports the standard library only."""

from __future__ import annotations

from pathlib import Path

__all__ = ["IMAGE", "SCRATCH"]

IMAGE = Path("/.imagebuild/root")
"""Where the engine lays the root of the container once more, read-only, with no other mount in it."""

SCRATCH = Path("/.imagebuild/test")
"""Where the engine gives an empty folder, on a file system that an overlay mount can write to."""
