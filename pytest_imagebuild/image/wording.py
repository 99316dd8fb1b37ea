"""How a chain call is shown to people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "call_text",
    "listed",
    "logins",
    "quoted",
    "with_credentials",
    "without_channel_logins",
    "without_credentials",
]

_LIMIT = 72
_LOGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<user>[^\s/:'\"]*)(?P<password>:[^\s/'\"]*)?@", re.IGNORECASE)
_PLACE = re.compile(r"[^\s@#?'\"]*")
_BARE_VARIABLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_TOKEN = re.compile(r"(?P<before>://[^\s'\"]*?/)t/[^/\s'\"]+/")
_VARIABLES = re.compile(r"\$\{[A-Za-z0-9_-]+\}(:\$\{[A-Za-z0-9_-]+\})?")


def quoted(text: str) -> str:
    """Write a string as the user would: in double quotes, on one line."""
    return json.dumps(text, ensure_ascii=False)


def listed(texts: Iterable[str]) -> str:
    """Write strings as the user would: a list of them."""
    return f"[{', '.join(map(quoted, texts))}]"


def without_credentials(text: str) -> str:
    """Take names and passwords out of the addresses in a text.

    As in PEP 610, what is no secret stays: environment variables, and the `git` that says how to log in.
    """
    return _LOGIN.sub(_public_login, text)


def logins(texts: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the scheme, the login with its `@`, and the host and path of each address that has a login.

    `$NAME` becomes `${NAME}`, which pip and uv replace in a requirements file.
    """
    for match in (match for text in texts for match in _LOGIN.finditer(text)):
        scheme, place = match["scheme"], _PLACE.match(match.string, match.end())
        if place and place[0]:
            yield scheme, _BARE_VARIABLE.sub(r"${\1}", match[0].removeprefix(scheme)), place[0]


def with_credentials(address: str, texts: Iterable[str]) -> str:
    """Give an address the login that one of `texts` has for it, if one has."""
    for scheme, login, place in logins(texts):
        rest = address.removeprefix(scheme + place)
        if rest != address and rest[:1] in {"", "@", "#", "?"}:
            return scheme + login + place + rest
    return address


def without_channel_logins(text: str) -> str:
    """Take names, passwords and tokens out of the addresses of conda channels; a token is their part `t/…`."""
    return _TOKEN.sub(r"\g<before>", without_credentials(text))


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
