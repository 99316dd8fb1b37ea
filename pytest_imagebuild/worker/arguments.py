"""Command lines of two pytests that do not have the same plugins: each learns to read what only the other knows.

Runs in the container too: imports the standard library and pytest only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

__all__ = ["accept", "ini_keys", "options", "unread"]

_GROUP = "options of the other side"


def options(parser: pytest.Parser) -> list[dict[str, Any]]:
    """Return the options that a parser knows: `flags`, `dest`, `action`, `nargs`, `const`, as JSON can carry them."""
    return [_described(action) for action in _argparse(parser)._actions if action.option_strings]  # noqa: SLF001


def ini_keys(parser: pytest.Parser) -> list[str]:
    """Return the ini keys that a parser knows."""
    return list(parser._inidict)  # noqa: SLF001 - pytest offers no list of them


def accept(parser: pytest.Parser, foreign: Iterable[Mapping[str, Any]], keys: Iterable[str] = ()) -> None:
    """Let a parser read options and ini keys that it does not know yet. Their values mean nothing on this side."""
    known = set(_argparse(parser)._option_string_actions)  # noqa: SLF001
    group = parser.getgroup(_GROUP)
    for option in foreign:
        flags = [flag for flag in option["flags"] if flag not in known]
        if not flags or not option["dest"].isidentifier():
            continue
        attributes: dict[str, Any] = {"dest": option["dest"], "action": option["action"], "help": argparse.SUPPRESS}
        if option["action"] in ("store", "append"):
            attributes["nargs"] = option["nargs"]
        if option["action"] == "store_const" or option["nargs"] in ("?", "*"):
            attributes["const"] = option["const"]
        # pytest keeps short options in lower case for itself, and this may be one of them.
        group._addoption(*flags, **attributes)  # noqa: SLF001
        known.update(flags)
    for key in keys:
        if key not in parser._inidict:  # noqa: SLF001
            parser.addini(key, "An ini key of the other side.", default=None)


def unread(parser: pytest.Parser, arguments: list[str], namespace: argparse.Namespace) -> list[str]:
    """Return the options among `arguments` that a parser does not know."""
    return [text for text in parser.parse_known_and_unknown_args(arguments, namespace)[1] if text.startswith("-")]


def _argparse(parser: pytest.Parser) -> argparse.ArgumentParser:
    make = getattr(parser, "_getparser", None)
    found: argparse.ArgumentParser = make() if make is not None else parser.optparser
    return found


def _described(action: argparse.Action) -> dict[str, Any]:
    kinds = {"_AppendAction": "append", "_CountAction": "count"}
    kind = kinds.get(type(action).__name__, "store")
    if action.nargs == 0 and kind == "store":
        kind = "store_const"
    return {
        "flags": list(action.option_strings),
        "dest": action.dest,
        "action": kind,
        "nargs": action.nargs if isinstance(action.nargs, (int, str)) else None,
        "const": _plain(action.const),
    }


def _plain(value: object) -> object:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return str(value)
    return value
