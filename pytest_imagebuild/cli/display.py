"""What the command prints."""

from __future__ import annotations

import sys

__all__ = ["complain", "say"]


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")


def complain(text: object) -> None:
    """Print an error."""
    sys.stderr.write(f"imagebuild: {text}\n")
