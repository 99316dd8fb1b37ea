"""Pipes for a channel that only this process can talk over."""

from __future__ import annotations

import contextlib
import os
import threading

from pytest_imagebuild.engines.protocol import Channel
from pytest_imagebuild.errors import EngineError

__all__ = ["Relay"]

_CHUNK = 256 * 1024


class Relay:
    """Passes on what a channel and three pipes say to each other, until either ends. The channel is the caller's."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._in, stdin = os.pipe()
        stdout, self._out = os.pipe()
        stderr, self._err = os.pipe()
        self.streams = stdin, stdout, stderr
        """The other ends of the pipes: of input, output and error output. `lent` closes them here."""
        self.error = ""
        """What the channel said when it failed."""
        os.set_blocking(self._err, False)
        for work in (self._pass_input, self._pass_output):
            threading.Thread(target=work, name=f"imagebuild{work.__name__}", daemon=True).start()

    def lent(self) -> None:
        """Say that another process has the other ends."""
        for stream in self.streams:
            os.close(stream)

    def _pass_input(self) -> None:
        with open(self._in, "rb", buffering=0) as source, contextlib.suppress(EngineError):  # noqa: PTH123
            while data := source.read(_CHUNK):
                self._channel.send(data)

    def _pass_output(self) -> None:
        with (
            open(self._out, "wb", buffering=0) as target,  # noqa: PTH123
            open(self._err, "wb", buffering=0) as errors,  # noqa: PTH123
            contextlib.suppress(BrokenPipeError),
        ):
            try:
                while data := self._channel.receive(None):
                    rest = memoryview(data)
                    while rest:
                        rest = rest[target.write(rest) :]
            except EngineError as error:
                self.error = str(error)
            # Before the end of the output, after which it is asked for; as much of it as a pipe takes.
            errors.write(self._channel.error_output())
