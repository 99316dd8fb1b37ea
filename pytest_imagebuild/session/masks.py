"""Mask the secrets of a session in all that its worker tells, before anybody else sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pytest_imagebuild.masking import Masking, StreamMask
from pytest_imagebuild.session.messages import (
    Collected,
    Done,
    Exited,
    Failure,
    Finished,
    Interrupted,
    JUnitProperty,
    Message,
    Missing,
    Output,
    Report,
    Summary,
    WarningSeen,
)

__all__ = ["MessageMask"]

_FOUND_BY = frozenset({"nodeid", "location", "keywords", "outcome", "when", "$report_type", "_report_type"})
"""What a report is found and rebuilt by. The names of tests are those that the collection here gave them."""

_FORM = frozenset({"type", "style"})
"""What a failure is rebuilt by."""


_SHOWN: Mapping[type[Message], tuple[str, ...]] = {
    WarningSeen: ("message", "line"),
    JUnitProperty: ("value",),
    Summary: ("text",),
    Missing: ("reason",),
    Interrupted: ("reason",),
    Failure: ("text",),
    Done: ("stop",),
}
"""The texts of the other messages."""


class MessageMask:
    """Masks the messages of one worker, in their order."""

    def __init__(self, masking: Masking) -> None:
        self._masking = masking
        self._streams: dict[str, StreamMask] = {}

    def __call__(self, messages: Iterator[Message]) -> Iterator[Message]:
        """Yield the messages, masked. Output that may be the beginning of a value comes with what follows it."""
        if not self._masking:
            yield from messages
            return
        for message in messages:
            if isinstance(message, Output) and message.stream == "terminal":
                # Piece by piece: whoever types wants to see it at once.
                yield message._replace(data=self._masking.text(message.data))
            elif isinstance(message, Output):
                stream = self._streams.setdefault(message.stream, StreamMask(self._masking))
                yield from _output(message.stream, stream.feed(message.data))
            else:
                yield from self.rest(last=isinstance(message, (Finished, Exited)))
                yield self._masked(message)

    def rest(self, *, last: bool = False) -> Iterator[Output]:
        """Yield what output is held back; all of it when it is the `last`."""
        for name, stream in self._streams.items():
            yield from _output(name, stream.flush(last=last))

    def _part(self, name: str, value: object) -> object:
        if name == "longrepr":
            return self._masking.tree(value, but=_FORM, keys=False)
        return value if name in _FOUND_BY else self._masking.tree(value, keys=name != "_subtest.context")

    def _masked(self, message: Message) -> Message:
        mask = self._masking.text
        match message:
            case Report(data=data):
                return message._replace(data={name: self._part(name, value) for name, value in data.items()})
            case Collected(errors=errors):
                return message._replace(errors=tuple(one._replace(longrepr=mask(one.longrepr)) for one in errors))
        texts = {name: getattr(message, name) for name in _SHOWN.get(type(message), ())}
        masked: dict[str, Any] = {name: mask(text) for name, text in texts.items() if text}
        return message._replace(**masked)


def _output(stream: str, text: str) -> Iterator[Output]:
    if text:
        yield Output(stream=stream, data=text)
