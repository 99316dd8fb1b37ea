"""How layers name bases that no registry has: nothing at all, and what was published on this machine."""

from __future__ import annotations

__all__ = ["SCRATCH", "as_published", "published_name"]

SCRATCH = "scratch"
"""The name of a base image that holds nothing; no registry has it."""

# No reference of a registry has a space in it.
_PUBLISHED = "published "


def as_published(name: str) -> str:
    """Give the base that was published under a name."""
    return f"{_PUBLISHED}{name}"


def published_name(base: str | None) -> str | None:
    """Give the name under which a base was published; None for a base that is something else."""
    return base.removeprefix(_PUBLISHED) if base is not None and base.startswith(_PUBLISHED) else None
