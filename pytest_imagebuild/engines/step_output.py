"""What a step prints: shown live, its end kept for a failure, and which of its commands printed it."""

from __future__ import annotations

from pytest_imagebuild.engines.lines import LineReader, Tail
from pytest_imagebuild.engines.protocol import Output
from pytest_imagebuild.engines.script import Script
from pytest_imagebuild.engines.work import CommandFailed, WorkEnd
from pytest_imagebuild.errors import EngineError

__all__ = ["StepOutput"]

_MOST_OUTPUT = 512 * 1024 * 1024


class StepOutput:
    """Takes in what the work prints. Where `show` is false, standard output is the result and only errors are shown."""

    def __init__(self, script: Script, output: Output, *, show: bool) -> None:
        shown = output if show else None
        self._script = script
        self._output = output
        self._shown = shown
        self._tail = Tail()
        self._begun: int | None = None
        self._raw = bytearray()
        self._last_shown = ""
        self._streams = (
            LineReader(self._line(shown), self._progress(shown)),
            LineReader(self._error_line, self._progress(output)),
        )

    def feed(self, data: bytes, *, error: bool) -> None:
        """Take in the next bytes of one of the two streams."""
        self._streams[error].feed(data)
        if self._shown is None and not error:
            self._raw += data
            if len(self._raw) > _MOST_OUTPUT:
                raise EngineError(f"a command printed more than {_MOST_OUTPUT >> 20} MiB")

    def finish(self) -> None:
        """Hand out what no newline ended."""
        for stream in self._streams:
            stream.finish()

    def result(self, end: WorkEnd) -> bytes:
        """Return standard output. Raises CommandFailed, or EngineError when no command of the work is to blame."""
        if end.code == 0 and not end.timed_out:
            return bytes(self._raw)
        if self._begun is None:
            raise EngineError(f"a step could not be prepared (exit code {end.code}): {self._tail.text().strip()}")
        raise CommandFailed(
            index=self._begun,
            exit_code=end.code,
            output=self._tail.text(),
            timed_out=end.timed_out,
            out_of_memory=end.out_of_memory,
        )

    def _error_line(self, line: str) -> None:
        before, mark, number = line.partition(self._script.mark)
        if before or not mark:
            self._line(self._output)(before)
        if mark:
            self._begun = self._script.index(number)

    def _line(self, output: Output | None) -> Output:
        def take(line: str) -> None:
            self._tail.add(line)
            if output is not None and line != self._last_shown:
                output(line)
            self._last_shown = ""

        return take

    def _progress(self, output: Output | None) -> Output:
        def take(line: str) -> None:
            self._last_shown = line
            if output is not None and self._script.mark not in line:
                output(line)

        return take
