"""What a call asks for with `gpu=`: a type, how many, and what else would do."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["ANY", "GpuRequest", "read_gpus", "shown_gpus"]

ANY = "ANY"
"""The type that every GPU has."""

_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuRequest:
    """`count` GPUs of a type, which is in capitals."""

    type: str
    count: int = 1

    def __str__(self) -> str:
        name = "any" if self.type == ANY else self.type
        return name if self.count == 1 else f"{name}:{self.count}"


def read_gpus(value: object, *, fallbacks: bool) -> tuple[GpuRequest, ...]:
    """Read `gpu=`: what is asked for, the best first; empty for None.

    `fallbacks` allows a list. Raises ValueError with a sentence of what is wrong (the reference, section 2.8).
    """
    if value is None:
        return ()
    if isinstance(value, str):
        return (_read(value),)
    if fallbacks and isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return tuple(dict.fromkeys(map(_read, value)))
    allowed = "a string, a list of strings" if fallbacks else "a string"
    raise ValueError(f"Invalid GPU config: {value!r}. Value must be {allowed} or `None`.")


def shown_gpus(asked: tuple[GpuRequest, ...]) -> str:
    """Return what was asked for as a sentence has it: `H100:2 or A100`."""
    return " or ".join(map(str, asked))


def _read(text: str) -> GpuRequest:
    kind, colon, count = text.partition(":")
    if not kind.strip():
        raise ValueError(f'Invalid GPU config: {text!r}. Write TYPE or TYPE:COUNT, as "H100" or "A100:2".')
    if colon and not _INTEGER.fullmatch(count):
        raise ValueError(f"Invalid GPU count: {count}. Value must be an integer.")
    number = int(count) if colon else 1
    if number < 1:
        raise ValueError(f"Invalid GPU count: {count}. Value must be 1 or more.")
    return GpuRequest(type=kind.strip().upper(), count=number)
