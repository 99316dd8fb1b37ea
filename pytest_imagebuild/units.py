"""Sizes and times as people write them."""

from __future__ import annotations

import argparse
import re

__all__ = ["age_text", "parse_age", "parse_size", "size_text"]

_SIZES = {
    **{unit: 1000**power for power, unit in enumerate(("B", "KB", "MB", "GB", "TB"))},
    **{unit: 1024**power for power, unit in enumerate(("", "KIB", "MIB", "GIB", "TIB"))},
    **{unit: 1000**power for power, unit in enumerate(("K", "M", "G", "T"), start=1)},
}
_AGES = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


def parse_size(text: str) -> int:
    """Read a size: `20GB`, `512MiB`, `1.5G`, a plain number of bytes. Raises ArgumentTypeError."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match[2].upper() not in _SIZES:
        message = f"{text!r} is not a size. Write a number with a unit, such as 20GB, 500MB or 1.5GiB."
        raise argparse.ArgumentTypeError(message)
    return int(float(match[1]) * _SIZES[match[2].upper()])


def parse_age(text: str) -> float:
    """Read a time in seconds: `14d`, `12h`, `2w`, `30m`. Raises ArgumentTypeError."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match[2] not in _AGES:
        message = f"{text!r} is not a time. Write a number with a unit, such as 14d, 12h, 2w or 30m."
        raise argparse.ArgumentTypeError(message)
    return float(match[1]) * _AGES[match[2]]


def size_text(size: float) -> str:
    """Return a size in decimal units: `1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.5 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def age_text(seconds: float) -> str:
    """Return a time in its largest unit that fits twice: `45 s`, `3 h`, `20 d`."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
