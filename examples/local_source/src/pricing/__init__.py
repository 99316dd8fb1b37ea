"""A small package of one's own."""

from __future__ import annotations

__all__ = ["price"]


def price(pieces: int, each: float) -> float:
    """Return the price of some pieces; ten and more are a tenth cheaper."""
    return round(pieces * each * (0.9 if pieces >= 10 else 1), 2)
