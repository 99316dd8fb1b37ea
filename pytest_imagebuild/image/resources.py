"""`memory=` and `cpu=` of the marker, as Modal writes them: what a container may use at most.

Modal also takes a pair, of what is reserved and of the limit. Nothing is reserved on one machine, so of a pair the
second counts.
"""

from __future__ import annotations

import math
import re

__all__ = ["bytes_of", "cores_of", "shown_cores", "shown_memory"]

MIB = 1024 * 1024
LEAST_MEMORY = 6 * MIB
LEAST_CPU = 0.01
"""Docker refuses less."""

_TEXT = re.compile(r"(\d+)([MG])", re.ASCII)
_UNITS = {"M": MIB, "G": 1024 * MIB}


def bytes_of(memory: object) -> int | None:
    """Return the bytes of `memory=`, None for no limit. Raises ValueError with what it takes and what was found."""
    limit = _limit(memory)
    size: int | None = None
    if isinstance(limit, str) and (match := _TEXT.fullmatch(limit)):
        size = int(match[1]) * _UNITS[match[2]]
    elif isinstance(limit, int) and not isinstance(limit, bool):
        size = limit * MIB
    elif limit is None and memory is None:
        return None
    if size is None:
        raise ValueError(f'memory takes a number of MiB, or a text like "512M" or "2G", found {memory!r}')
    if size < LEAST_MEMORY:
        raise ValueError(f"memory takes {LEAST_MEMORY // MIB} MiB or more, found {memory!r}")
    return size


def cores_of(cpu: object) -> float | None:
    """Return the cores of `cpu=`, None for no limit. Raises ValueError with what it takes and what was found."""
    limit = _limit(cpu)
    if limit is None and cpu is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not math.isfinite(limit) or limit < LEAST_CPU:
        raise ValueError(f"cpu takes a number of cores of {LEAST_CPU} or more, found {cpu!r}")
    return float(limit)


def shown_memory(size: int) -> str:
    """Return how the marker would write a limit of `size` bytes."""
    return f"memory={size // MIB}"


def shown_cores(cores: float) -> str:
    """Return how the marker would write a limit of cores."""
    return f"cpu={cores:g}"


def _limit(value: object) -> object:
    """Return the limit of a pair of request and limit, anything else as it is."""
    return value[1] if isinstance(value, tuple) and len(value) == 2 else value
