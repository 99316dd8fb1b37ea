"""Stars for secret values in whatever is shown or kept.

A value is found as it is and as programs write it: quoted for a URL, JSON, Python or a shell, in base64 (also within a
longer text), each line of one that has several, and the password of one that is an address. Of a value that was cut,
because a line was too long or a text was shortened with `...`, the beginning and the end are found.

Values shorter than `SHORTEST` stay: stars for every `1` or `on` would hide the rest of the text, and say where the
value stands.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from urllib.parse import quote, quote_plus, unquote, urlsplit

__all__ = ["SHORTEST", "STARS", "Masking", "StreamMask"]

STARS = "***"
SHORTEST = 4

_SHORTEST_BASE64 = 6
_PIECE = 8
"""The shortest beginning or end of a cut value that is taken for one, where no `...` says that something was cut."""

_CUT = re.compile(r"\.\.\.|[\n'\"]|\Z")
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_RESUMED = re.compile(r"\A|(?<=\.\.\.)|(?<=\n)")


class Masking:
    """Puts stars for the values that it was made of. Without any, every text stays as it is."""

    __slots__ = ("_all", "forms", "pattern")

    def __init__(self, values: Iterable[str] = ()) -> None:
        found = {form for value in values for form in _forms(value)}
        self.forms = sorted(found, key=lambda form: (-len(form), form))
        # The longest first: one form can be a part of another.
        self.pattern = re.compile("|".join(map(re.escape, self.forms))) if found else None
        self._all = "\0".join(self.forms)

    def __bool__(self) -> bool:
        return self.pattern is not None

    def __repr__(self) -> str:
        return f"Masking({len(self.forms)} forms)"

    def text(self, text: str) -> str:
        """Return a text without the values, also where colors change within one."""
        if self.pattern is None or not text:
            return text
        plain = _COLOR.sub("", text)
        spans = sorted(chain(self._wholes(plain), self._beginnings(plain), self._ends(plain)))
        return _starred(text, spans) if spans else text

    def parts(self, text: str) -> str:
        """Return a part of a longer text without the values that are whole in it."""
        spans = list(self._wholes(_COLOR.sub("", text)))
        return _starred(text, spans) if spans else text

    def tree(self, value: object, *, but: frozenset[str] = frozenset(), keys: bool = True) -> object:
        """Return a value of what JSON knows without the secret ones, in `keys` too unless they are given.

        What a key of `but` names stays as it is.
        """
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {
                self.text(name) if keys else name: item if name in but else self.tree(item, but=but, keys=keys)
                for name, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.tree(item, but=but, keys=keys) for item in value]
        return value

    def _wholes(self, text: str) -> Iterator[tuple[int, int]]:
        return (match.span() for match in self.pattern.finditer(text)) if self.pattern else iter(())

    def _beginnings(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield where the beginning of a value stands before a cut."""
        for cut in _CUT.finditer(text):
            end, least = cut.start(), _least(cut[0])
            if end >= least and text[end - least : end] in self._all:
                size = max(_begun(text, end, form) for form in self.forms)
                if size >= least:
                    yield end - size, end

    def _ends(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield where the end of a value stands after a cut."""
        for start in (match.start() for match in _RESUMED.finditer(text)):
            least = _least(text[max(0, start - 3) : start])
            if len(text) - start >= least and text[start : start + least] in self._all:
                size = max(_rest(text, start, form) for form in self.forms)
                if size >= least:
                    yield start, start + size


class StreamMask:
    """Masks one stream of text that comes in parts: an end in which a value may have begun waits for the next part."""

    def __init__(self, masking: Masking) -> None:
        self._masking = masking
        self._held = ""

    def feed(self, text: str) -> str:
        """Take in the next part; return what can be shown."""
        pattern = self._masking.pattern
        if pattern is None:
            return text
        whole = self._held + text
        cut = len(whole) - max(_begun(whole, len(whole), form) for form in self._masking.forms)
        for match in pattern.finditer(whole):
            if match.start() < cut < match.end():
                cut = match.end()
        self._held = whole[cut:]
        return self._masking.parts(whole[:cut])

    def flush(self, *, last: bool = False) -> str:
        """Return what waits, if it is not as long as a value can be, or the `last` to come: masked then."""
        if len(self._held) >= SHORTEST and not last:
            return ""
        held, self._held = self._held, ""
        return held if len(held) < SHORTEST else STARS


def _starred(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Put stars for sorted spans of a text, in which its colors do not count; the colors stay."""
    places: Sequence[int] = range(len(text))
    if "\x1b" in text:
        colored = {place for match in _COLOR.finditer(text) for place in range(*match.span())}
        places = [place for place in places if place not in colored]
    parts, done = [], 0
    for start, end in _merged(spans):
        first, last = places[start], places[end - 1] + 1
        parts += [text[done:first], STARS, *_COLOR.findall(text, first, last)]
        done = last
    return "".join([*parts, text[done:]])


def _merged(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    begun, ended = 0, 0
    for start, end in spans:
        if start >= ended:
            if ended:
                yield begun, ended
            begun = start
        ended = max(ended, end)
    if ended:
        yield begun, ended


def _least(cut: str) -> int:
    return SHORTEST if cut == "..." else _PIECE


def _begun(text: str, end: int, form: str) -> int:
    """Return how many characters before `end` are the beginning of `form`, but not all of it."""
    if not end:
        return 0
    at = form.rfind(text[end - 1], 0, len(form) - 1)
    while at >= 0 and not text.endswith(form[: at + 1], 0, end):
        at = form.rfind(text[end - 1], 0, at)
    return at + 1


def _rest(text: str, start: int, form: str) -> int:
    """Return how many characters from `start` are the end of `form`, but not all of it."""
    at = form.find(text[start], 1)
    while at >= 0 and not text.startswith(form[at:], start):
        at = form.find(text[start], at + 1)
    return len(form) - at if at >= 0 else 0


def _forms(value: str) -> Iterator[str]:
    """Yield the texts that stand for a value, as far as they are long enough."""
    for part in dict.fromkeys((value, value.strip(), *value.splitlines(), *_passwords(value))):
        text = part.strip("\r\n")
        if len(text.strip()) >= SHORTEST:
            yield from (form for form in _written(text) if len(form) >= SHORTEST)
            yield from (form for form in _base64(text) if len(form) >= _SHORTEST_BASE64)


def _written(text: str) -> Iterator[str]:
    raw = text.encode("utf-8", "surrogateescape")
    yield text
    yield text.strip()
    yield from (quote(raw), quote(raw, safe=""), quote_plus(raw))
    yield from (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])
    yield from (repr(text)[1:-1], repr(raw)[2:-1], ascii(text)[1:-1])
    yield from (text.replace("'", "'\"'\"'"), text.replace("'", "'\\''"))
    # How a shell shows a word with special characters in its trace, and between double quotes.
    yield shlex.quote(text).strip("'")
    yield re.sub(r'([\\"$`])', r"\\\1", text)


def _base64(text: str) -> Iterator[str]:
    raw = text.encode("utf-8", "surrogateescape")
    yield from base64.encodebytes(raw).decode("ascii").splitlines()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + raw).decode("ascii")
        # What depends on the neighbours of the value is left out.
        inner = encoded[(0, 2, 3)[before] : len(encoded) - (0, 3, 2)[(before + len(raw)) % 3]]
        for form in (encoded, encoded.rstrip("="), inner) if before == 0 else (inner,):
            yield form
            yield form.replace("+", "-").replace("/", "_")


def _passwords(value: str) -> Iterator[str]:
    """Yield the passwords of the addresses in a value."""
    for word in value.split() if "://" in value and "@" in value else ():
        try:
            password = urlsplit(word).password
        except ValueError:
            continue
        if password:
            yield from (password, unquote(password))
