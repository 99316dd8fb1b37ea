"""What makes a node a stand-in."""

from __future__ import annotations

__all__ = ["Proxy"]


class Proxy:
    """What all stand-ins have in common: they look like what they stand for."""

    kind: str
    name: str

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}>"
