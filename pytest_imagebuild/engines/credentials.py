"""What a registry is logged in with."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Credentials"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """What a registry is logged in with."""

    username: str
    password: str = field(repr=False)
