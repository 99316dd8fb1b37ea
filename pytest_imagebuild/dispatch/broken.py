"""What is told of a session that could not start, or whose worker died."""

from __future__ import annotations

import re
from typing import NamedTuple

from pytest_imagebuild.dispatch.requests import SessionKey
from pytest_imagebuild.image.resources import shown_memory
from pytest_imagebuild.session.session import WorkerDied, WorkerFailedToStart, WorkerTimeout

__all__ = ["Broken", "broken_by", "last_words", "with_limit"]

_NOT_OF_THE_USER = re.compile(r'(?m)^  File "[^"]*/(?:_pytest|pluggy|pytest_imagebuild)/.*\n?')
"""Frames of a stack, as faulthandler prints them, that run the test."""


class Broken(NamedTuple):
    """Why a session cannot run anything: the setup error of each of its items."""

    text: str
    sections: tuple[tuple[str, str], ...] = ()


def broken_by(error: Exception) -> Broken:
    """Return what an error means for every item of the session that it kept from starting."""
    text = str(error) or type(error).__name__
    if isinstance(error, WorkerDied):
        text = f"The test files could not be collected in the container.\n{text}"
    return Broken(text, last_words(error))


def with_limit(error: Exception, key: SessionKey) -> str:
    """Return what is said of an error; of a worker that ran out of memory, also how much it had."""
    if not isinstance(error, WorkerDied) or not error.out_of_memory or key.memory is None:
        return str(error)
    return f"{error}\nThe marker gives it {shown_memory(key.memory)} (MiB). Give it more, or let the test use less."


def last_words(error: Exception) -> tuple[tuple[str, str], ...]:
    """Return the section that shows what a worker printed last, or where it was; none if there is nothing."""
    match error:
        case WorkerDied(output=text) | WorkerFailedToStart(output=text):
            title = "Last output of the worker"
        case WorkerTimeout(stacks=text):
            title = "Stacks of the worker"
        case _:
            return ()
    shown = _NOT_OF_THE_USER.sub("", text)
    return ((title, shown),) if shown.strip() else ()
