"""How a chain call is shown to people."""

from __future__ import annotations

import json
from collections.abc import Sequence

__all__ = ["call_text", "quoted"]

_LIMIT = 72


def quoted(text: str) -> str:
    """Write a string as the user would: in double quotes, on one line."""
    return json.dumps(text, ensure_ascii=False)


def call_text(name: str, arguments: Sequence[str], *, limit: int = _LIMIT) -> str:
    """Write a call on one line, with `…` for what does not fit into `limit` characters."""
    whole = f"{name}({', '.join(arguments)})"
    if len(whole) <= limit:
        return whole
    room = limit - len(name) - len("(, …)")
    shown: list[str] = []
    for argument in arguments:
        if sum(len(text) + 2 for text in shown) + len(argument) > room:
            break
        shown.append(argument)
    if shown:
        return f"{name}({', '.join(shown)}, …)"
    return f"{name}({arguments[0][: max(room, 8)]}…)"
