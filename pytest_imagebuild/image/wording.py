"""How a chain call is shown to people."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

__all__ = ["call_text", "quoted", "without_credentials"]

_LIMIT = 72
_LOGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<user>[^\s/:'\"]*)(?P<password>:[^\s/'\"]*)?@", re.IGNORECASE)
_VARIABLES = re.compile(r"\$\{[A-Za-z0-9_-]+\}(:\$\{[A-Za-z0-9_-]+\})?")


def quoted(text: str) -> str:
    """Write a string as the user would: in double quotes, on one line."""
    return json.dumps(text, ensure_ascii=False)


def without_credentials(text: str) -> str:
    """Take names and passwords out of the addresses in a text.

    As in PEP 610, what is no secret stays: environment variables, and the `git` that says how to log in.
    """
    return _LOGIN.sub(_public_login, text)


def _public_login(match: re.Match[str]) -> str:
    scheme, user, password = match["scheme"], match["user"], match["password"] or ""
    if _VARIABLES.fullmatch(user + password):
        return match[0]
    kept = user == "git" or scheme.lower().endswith("ssh://")
    return f"{scheme}{user}@" if kept and user else scheme


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
