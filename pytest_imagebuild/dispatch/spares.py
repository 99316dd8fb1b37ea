"""Sessions that wait for a test of their own: how `isolation="test"` hides what a fresh container costs.

A spare is a container whose worker has collected a file and waits. Whatever makes such a session faster, a fork of one
that has collected, say, belongs into what `begin` does; nothing here depends on how it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from itertools import islice

from pytest_imagebuild.session.session import Session

__all__ = ["AHEAD", "Spares"]

AHEAD = 3
"""Containers that are started while a test runs in another."""


class Spares:
    """The waiting sessions of one session key. `begin` starts one for a file, `end` ends one that nobody wants."""

    def __init__(self, begin: Callable[[str], Future[Session]], end: Callable[[Future[Session]], None]) -> None:
        self._begin = begin
        self._end = end
        self._waiting: list[tuple[str, Future[Session]]] = []

    def take(self, file: str) -> Session:
        """Return a session for a test of `file`; it is the caller's from now on. Raises what kept it from starting."""
        return (self._pick(file) or self._begin(file)).result()

    def prepare(self, files: Iterable[str]) -> None:
        """Have sessions wait for the first of the tests that come next, given by their files, and for no others."""
        chosen = [(file, self._pick(file)) for file in islice(files, AHEAD)]
        unwanted, self._waiting = self._waiting, []
        for _, spare in unwanted:
            self._end(spare)
        self._waiting = [(file, spare or self._begin(file)) for file, spare in chosen]

    def _pick(self, file: str) -> Future[Session] | None:
        for number, (waits_for, spare) in enumerate(self._waiting):
            if waits_for == file:
                del self._waiting[number]
                return spare
        return None
