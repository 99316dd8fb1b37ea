"""The wire between controller and worker. Runs in the container too: imports the standard library only.

Both directions carry newline-delimited JSON in ASCII, one object a line, with its kind under `type`.
Controller to container: `setup` (followed by `payload` raw bytes), `collect`, `run`, `shell`, `answer`, `terminal`,
`resize`, `input`, `dump`, `finish`.
Container to controller: `ready`, `nodes`, `collected`, `missing`, `report`, `warning`, `junit`, `coverage`, `asked`,
`terminal`, `done`, `shell`, `interrupted`, `summary`, `output`, `error`, `finished`, `exited`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

__all__ = ["MAX_LINE", "MAX_NESTING", "PROTOCOL", "encode"]

PROTOCOL = 3
"""Grows when a peer of the version before could misunderstand a message."""

MAX_LINE = 16 * 1024 * 1024
"""The longest line, in bytes, that either side takes."""

MAX_NESTING = 100
"""The deepest nesting of lists and objects in a message."""

_KEPT_NESTING = 40
_LIMITS = (1024 * 1024, 64 * 1024, 4 * 1024, 256)


def encode(message: Mapping[str, object]) -> bytes:
    """Return `message` as one line of the wire, whatever its values are.

    A value that JSON does not know becomes its text. Strings lose their middle and lists their end where
    the message would be longer than a line may be.
    """
    try:
        text = _encoder.encode(message)
        simple = text.count("[") + text.count("{") < MAX_NESTING
    except (TypeError, ValueError, RecursionError):
        simple = False
    if not simple:
        text = _encoder.encode(_plain(message, _KEPT_NESTING, None))
    for limit in _LIMITS:
        if len(text) < MAX_LINE:
            break
        text = _encoder.encode(_plain(message, _KEPT_NESTING, limit))
    return text.encode("ascii") + b"\n"


def _text(value: object) -> str:
    try:
        text = str(value)
    except Exception as error:  # noqa: BLE001 - a __str__ of the user's may raise anything; the report must get across
        text = f"<{type(value).__name__} whose text raised {type(error).__name__}>"
    return _cut(text, _LIMITS[1])


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"


def _plain(value: object, depth: int, limit: int | None) -> object:
    """Rebuild `value` of what JSON knows, `depth` levels deep, with strings cut to `limit` characters."""
    if value is None or isinstance(value, (bool, float, int, str)):
        return _plain_scalar(value, limit)
    if depth and isinstance(value, Mapping):
        return {_cut(_text(key), limit or 4096): _plain(item, depth - 1, limit) for key, item in value.items()}
    if depth and isinstance(value, (list, tuple)):
        kept = value if limit is None else value[: 16 * limit]
        return [_plain(item, depth - 1, limit) for item in kept]
    return _cut(_text(value), limit or _LIMITS[1])


_encoder = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"), default=_text)


def _plain_scalar(value: str | float | None, limit: int | None) -> str | float | None:
    if isinstance(value, str) and limit is not None:
        return _cut(value, limit)
    if isinstance(value, int) and value.bit_length() > 10_000:
        return hex(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
