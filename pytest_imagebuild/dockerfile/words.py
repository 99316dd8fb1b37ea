"""Expand variables and take away quotes, as Docker does in the arguments of most instructions.

The forms: `$name`, `${name}`, `${name:-word}`, `${name-word}`, `${name:+word}`, `${name+word}`, `${name:?word}`,
`${name?word}`, `${name#pattern}`, `${name##pattern}`, `${name%pattern}`, `${name%%pattern}`, `${name/pattern/word}`
and `${name//pattern/word}`. Single quotes keep everything; the escape character keeps what follows it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["ExpansionError", "Lookup", "expand", "split"]

Lookup = Callable[[str], "str | None"]
"""Gives the value of a variable; None where it is not set."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]|[@*#]")


class ExpansionError(ValueError):
    """A text cannot be expanded; the message says why."""


def expand(text: str, lookup: Lookup, escape: str = "\\") -> str:
    """Expand a text to one text. Raises ExpansionError."""
    return "".join(piece for piece, _ in _Expander(text, lookup, escape).run(""))


def split(text: str, lookup: Lookup, escape: str = "\\") -> list[str]:
    """Expand a text to words: parted at white space, also at that of a variable, but not in quotes."""
    words: list[str] = []
    word, begun = "", False
    for piece, quoted in _Expander(text, lookup, escape).run(""):
        for character in piece:
            if not quoted and character.isspace():
                if word:
                    words.append(word)
                word, begun = "", False
            else:
                word, begun = word + character, True
    return [*words, word] if begun and word else words


class _Expander:
    """Reads one text from left to right. Pieces are texts, and whether they were quoted."""

    def __init__(self, text: str, lookup: Lookup, escape: str) -> None:
        self._text = text
        self._lookup = lookup
        self._escape = escape
        self._at = 0

    def run(self, stop: str, *, raw: bool = False) -> list[tuple[str, bool]]:
        """Read up to the character `stop`, or to the end. With `raw`, escapes stay for a pattern to read."""
        pieces: list[tuple[str, bool]] = []
        while self._at < len(self._text):
            character = self._text[self._at]
            if stop and character == stop:
                self._at += 1
                return pieces
            if character == "'":
                pieces.append((self._single(), True))
            elif character == '"':
                pieces.append((self._double(), True))
            elif character == "$":
                pieces.append((self._variable(), False))
            elif character == self._escape:
                pieces.append((self._escaped(raw=raw), True))
            else:
                self._at += 1
                pieces.append((character, False))
        if stop:
            raise ExpansionError(f"{self._text!r} lacks its {stop!r}")
        return pieces

    def _escaped(self, *, raw: bool) -> str:
        kept = self._text[self._at + 1 : self._at + 2]
        self._at += 2
        return (self._escape if raw else "") + kept

    def _single(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise ExpansionError(f"{self._text!r} lacks its closing single quote")
        text = self._text[self._at + 1 : end]
        self._at = end + 1
        return text

    def _double(self) -> str:
        self._at += 1
        text = ""
        while self._at < len(self._text):
            character = self._text[self._at]
            if character == '"':
                self._at += 1
                return text
            if character == "$":
                text += self._variable()
                continue
            follows = self._text[self._at + 1 : self._at + 2]
            if character == self._escape and follows in ('"', "$", self._escape):
                self._at += 1
                character = follows
            self._at += 1
            text += character
        raise ExpansionError(f"{self._text!r} lacks its closing double quote")

    def _variable(self) -> str:
        self._at += 1
        if not self._text.startswith("{", self._at):
            name = self._name()
            return "$" if not name else self._lookup(name) or ""
        self._at += 1
        name = self._name()
        if not name:
            raise ExpansionError(f"{self._text!r} has a bad substitution")
        operator = self._text[self._at : self._at + 1]
        if operator == "}":
            self._at += 1
            return self._lookup(name) or ""
        return self._modified(name, operator)

    def _name(self) -> str:
        match = _NAME.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]

    def _modified(self, name: str, operator: str) -> str:
        self._at += 1
        empty_is_unset = operator == ":"
        if empty_is_unset:
            operator = self._text[self._at : self._at + 1]
            self._at += 1
        if operator in ("-", "+", "?") and operator:
            return self._choose(name, operator, self._word("}"), empty_is_unset=empty_is_unset)
        if operator in ("#", "%", "/") and operator and not empty_is_unset:
            twice = self._text.startswith(operator, self._at)
            self._at += twice
            if operator == "/":
                return self._replace(name, every=twice)
            return self._trim(name, operator, self._word("}", raw=True), greedy=twice)
        raise ExpansionError(f"{self._text!r} has an unknown modifier in the substitution of {name}")

    def _word(self, stop: str, *, raw: bool = False) -> str:
        return "".join(piece for piece, _ in self.run(stop, raw=raw))

    def _choose(self, name: str, operator: str, word: str, *, empty_is_unset: bool) -> str:
        value = self._lookup(name)
        is_set = value is not None and not (empty_is_unset and not value)
        if operator == "+":
            return word if is_set else ""
        if is_set and value is not None:
            return value
        if operator == "?":
            raise ExpansionError(f"{name}: {word or 'is not allowed to be unset or empty'}")
        return word

    def _trim(self, name: str, operator: str, pattern: str, *, greedy: bool) -> str:
        value = self._lookup(name) or ""
        regex = re.compile(_regex(pattern), re.DOTALL)
        cuts = range(len(value) + 1)
        if operator == "#":
            found = [cut for cut in cuts if regex.fullmatch(value[:cut])]
            return value[(found[-1] if greedy else found[0]) :] if found else value
        found = [cut for cut in cuts if regex.fullmatch(value[cut:])]
        return value[: found[0] if greedy else found[-1]] if found else value

    def _replace(self, name: str, *, every: bool) -> str:
        pattern, word = self._word("/", raw=True), self._word("}")
        value = self._lookup(name) or ""
        return re.sub(_regex(pattern), lambda _: word, value, count=0 if every else 1, flags=re.DOTALL)


def _regex(pattern: str) -> str:
    source, at = "", 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\" and at + 1 < len(pattern):
            at += 1
            source += re.escape(pattern[at])
        else:
            source += {"*": ".*", "?": "."}.get(character) or re.escape(character)
        at += 1
    return source
