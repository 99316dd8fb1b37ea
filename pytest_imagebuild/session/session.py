"""A session: one container, the worker in it, and the items that it runs one after another."""

from __future__ import annotations

import signal as signals
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NoReturn

from pytest_imagebuild.engines.protocol import Container, ExitStatus
from pytest_imagebuild.errors import EngineError, ImageBuildError, WireError
from pytest_imagebuild.masking import Masking
from pytest_imagebuild.session.clock import Clock, deadline_in
from pytest_imagebuild.session.deaths import WorkerDied, WorkerFailedToStart, WorkerTimeout, printable
from pytest_imagebuild.session.masks import MessageMask
from pytest_imagebuild.session.messages import (
    Asked,
    Collected,
    Done,
    Exited,
    Failure,
    Finished,
    Interrupted,
    JUnitProperty,
    Measured,
    Message,
    Missing,
    Nodes,
    Output,
    Ready,
    Report,
    ShellEnded,
    Summary,
    Terminal,
    WarningSeen,
)
from pytest_imagebuild.session.reports import mend_report
from pytest_imagebuild.session.setup import Setup, encoded
from pytest_imagebuild.session.wire import Parser
from pytest_imagebuild.worker.protocol import PROTOCOL

__all__ = ["Session", "WorkerDied", "WorkerFailedToStart", "WorkerTimeout"]

_KEPT_OUTPUT = 64 * 1024
_DUMP_SECONDS = 1.0
_DUMP_QUIET_SECONDS = 0.2
_EXIT_SECONDS = 5.0


class Session:
    """Runs items in one worker. Not for several threads, but for `stop`.

    `stopped` is called when its container is gone.

    Once it has raised, it is over and its container gone. After `Interrupted`, only `finish` or `stop` make sense.
    """

    def __init__(
        self,
        container: Container,
        setup: Setup,
        *,
        start_timeout: float | None = None,
        masking: Masking | None = None,
        stopped: Callable[[], None] | None = None,
    ) -> None:
        self._container = container
        self._setup = setup
        self._stopped = stopped
        self._start_timeout = start_timeout
        self._sender = threading.Thread(target=self._send_setup, name="imagebuild-setup", daemon=True)
        self._send_error = ""
        self._sending = threading.Lock()
        self._parser = Parser()
        self._parsed: Iterator[Message] = iter(())
        self._masking = masking or Masking()
        self._mask = MessageMask(self._masking)
        self._output = _Tail(_KEPT_OUTPUT)
        self._failure = ""
        self._over: ImageBuildError | None = None
        self._interrupted: ImageBuildError | None = None
        self._early: list[Message] = []
        self._last: str | None = None
        self._ahead: deque[tuple[str, str | None]] = deque()
        self._round = 0
        self.known: Callable[[], Sequence[str]] = tuple
        """Names the plugins of the controller, when the session is to finish."""
        self.ready: Ready | None = None
        """What the worker is, once an item has been run."""
        self.collected: Collected | None = None
        """What it has collected, once an item has been run."""

    def begin(self) -> None:
        """Start to send the setup, in a thread: the worker gets ready while the controller does other things."""
        self._sender.start()

    def configured(self) -> Ready:
        """Wait until pytest is configured. Raises WorkerFailedToStart, WorkerDied or WorkerTimeout."""
        for message in self._until_ready(deadline_in(self._start_timeout)):
            self._early.append(message)
        if self.ready is None:
            raise self._interrupted or WorkerDied()
        return self.ready

    def shown(self) -> Iterator[Output]:
        """Yield what a worker prints that only shows something. Raises WorkerFailedToStart or WorkerDied."""
        finished = False
        while True:
            match self._receive(None):
                case Output() as message:
                    yield message
                case Finished():
                    # What was printed comes by another way, and may come later.
                    finished = True
                case Exited() if finished:
                    return
                case message:
                    self._die_of(message)

    def collect(self, args: Sequence[str], known: Sequence[str] = ()) -> None:
        """Tell the worker to collect these files (or the files of these node ids). Call it once, before `run`.

        A worker that describes what it collects takes them as pytest takes arguments, and tells what plugins say that
        are not `known` (as `worker.words.known_plugins` names them) in the controller.
        """
        self._send({"type": "collect", "args": list(args), "known": list(known)})

    def run(
        self,
        item: str,
        next_item: str | None,
        failed: int,
        timeout: float | None,
        *,
        ahead: Sequence[tuple[str, str | None]] = (),
    ) -> Iterator[Message]:
        """Run an item; yield what comes of it, `Done` or `Missing` last, or `Interrupted`.

        `next_item` decides which fixtures stay; `failed` is how many tests of the run failed so far;
        `timeout` is in seconds. `ahead` are items, each with the one after it, that are run for certain after
        this one and those that were ahead already: the worker need not wait for the controller then, and the next
        calls must be for these. It waits after an item that fails or stops the run, as the message that ends it says;
        then nothing is ahead any more.
        Raises WorkerFailedToStart, WorkerDied or WorkerTimeout.
        """
        if (over := self._over or self._interrupted) is not None:
            raise over
        if self._ahead and self._ahead[0] != (item, next_item):
            msg = f"{self._ahead[0]} was asked for ahead, so it is the next to run, not {(item, next_item)}"
            raise ValueError(msg)
        yield from self.collection()
        if self._interrupted is not None:
            return
        asked = ahead if self._ahead else [(item, next_item), *ahead]
        self._ahead.extend(asked)
        self._ahead.popleft()
        requests = [
            {"type": "run", "item": each, "next": after, "failed": failed, "round": self._round}
            for each, after in asked
        ]
        if requests:
            self._send(*requests)
        yield from self._messages_of(item, timeout)

    def answer(self, answer: Mapping[str, object]) -> None:
        """Answer what was `Asked` last: `value`, or `error` or `skipped` with a text."""
        self._send({"type": "answer", **answer})

    def shell(self) -> Iterator[Message]:
        """Run a shell in the container; yield what comes of it, `ShellEnded` last.

        Raises WorkerFailedToStart or WorkerDied.
        """
        yield from self.collection()
        if self._interrupted is not None:
            raise self._interrupted
        self._send({"type": "shell"})
        while True:
            match self._receive(None):
                case Output() | Terminal() as message:
                    yield message
                case ShellEnded() as message:
                    yield message
                    return
                case message:
                    self._die_of(message)

    def lend_terminal(self, *, whole: bool, size: tuple[int, int], kind: str | None) -> None:
        """Answer `Terminal`: there is one of `size` rows and columns, or if it is not `whole`, only an input.

        `kind` is what TERM calls it.
        """
        self._send({"type": "terminal", "whole": whole, "rows": size[0], "columns": size[1], "term": kind})

    def refuse_terminal(self) -> None:
        """Answer `Terminal`: there is none."""
        self._send({"type": "answer", "value": None})

    def resize_terminal(self, size: tuple[int, int]) -> None:
        """Tell the rows and columns that the terminal has now."""
        self._send({"type": "resize", "rows": size[0], "columns": size[1]})

    def type(self, keys: bytes) -> None:
        """Pass on what was typed, b"" for the end of the input. May be called from another thread."""
        self._send({"type": "input", "data": keys.decode("latin-1")})

    def finish(self, timeout: float | None = None) -> Iterator[Message]:
        """End the worker in good order; yield the reports of fixtures that fail at their end. Stops the container.

        `timeout` is in seconds. Raises WorkerDied or WorkerTimeout if an item has been run.
        """
        try:
            if self._over is None and self._sender.ident is not None:
                if self._interrupted is None:
                    self._send({"type": "finish", "known": list(self.known())})
                yield from self._last_messages(timeout)
        except (WorkerDied, WorkerFailedToStart, WorkerTimeout):
            if self._last is not None and self._interrupted is None:
                raise
        finally:
            self.stop()

    def stop(self) -> None:
        """Kill the worker and remove its container, at once. Calling it again does nothing."""
        self._over = self._over or WorkerDied(detail="The session was stopped.")
        if self._sender.is_alive():
            # It may wait for a container that does not read, and a channel in use need not close.
            self._container.stop()
        with suppress(EngineError):
            self._container.channel.close()
        try:
            self._container.stop()
        finally:
            if self._stopped is not None:
                self._stopped()

    def collection(self) -> Iterator[Message]:
        """Wait until the collection is done; yield what comes of it.

        Raises WorkerFailedToStart, WorkerDied or WorkerTimeout.
        """
        if (over := self._over) is not None:
            raise over
        deadline = deadline_in(self._start_timeout)
        yield from self._until_ready(deadline)
        while self.collected is None and self._interrupted is None:
            match self._receive(deadline):
                case Collected() as collected:
                    self.collected = collected
                case Nodes() as message:
                    yield message
                case message:
                    yield from self._before_collected(message)

    def _until_ready(self, deadline: float | None) -> Iterator[Message]:
        early, self._early = self._early, []
        yield from early
        while self.ready is None and self._interrupted is None:
            match self._receive(deadline):
                case Ready(protocol=protocol) as ready if protocol == PROTOCOL:
                    self.ready = ready
                case message:
                    yield from self._before_collected(message)

    def _before_collected(self, message: Message | None) -> Iterator[Message]:
        match message:
            case Interrupted():
                self._interrupted = WorkerDied(detail=message.reason)
                yield message
            case Output() | WarningSeen() | JUnitProperty() | Terminal():
                yield message
            case None:
                self._time_out(self._start_timeout or 0.0, "The worker had not collected its tests")
            case _:
                self._die_of(message)

    def _messages_of(self, item: str, timeout: float | None) -> Iterator[Message]:
        clock = Clock(timeout)
        while self._interrupted is None:
            match self._receive(clock.deadline):
                case Report() as report:
                    # A fixture that outlived the item before may fail at its end only now.
                    yield self._mended(report, {item, self._last or item})
                case Output() | WarningSeen() | JUnitProperty() | Measured() as message:
                    yield message
                case Asked() | Terminal() as message:
                    with clock.stopped_by(message):
                        yield message
                case Done(item=done) as message if done == item:
                    self._last = item
                    self._end_round(waits=message.waits)
                    yield message
                    return
                case Missing(item=missing) as message if missing == item:
                    self._end_round(waits=message.waits)
                    yield message
                    return
                case Interrupted() as message:
                    self._interrupted = WorkerDied(detail=message.reason)
                    yield message
                case None:
                    self._time_out(timeout or 0.0)
                case message:
                    self._die_of(message)

    def _end_round(self, *, waits: bool) -> None:
        if waits:
            self._round += 1
            self._ahead.clear()

    def _last_messages(self, timeout: float | None) -> Iterator[Message]:
        deadline = deadline_in(timeout)
        finished = self._interrupted is not None
        while True:
            match self._receive(deadline):
                case Report() as report if self._last is not None:
                    yield self._mended(report, {self._last})
                case Output() | WarningSeen() | JUnitProperty() | Measured() | Summary() as message:
                    yield message
                case Terminal(open=True):
                    # A fixture's end, while other things go on here.
                    self.refuse_terminal()
                case Finished():
                    finished = True
                    deadline = deadline_in(_EXIT_SECONDS)
                case Exited() | None if finished:
                    return
                case None:
                    self._time_out(timeout or 0.0, "The worker did not end")
                case Exited() as message:
                    self._die_of(message)
                case _:
                    pass

    def _mended(self, report: Report, items: Collection[str]) -> Report:
        try:
            return report._replace(data=mend_report(report.data, items=items))
        except WireError as error:
            self._die(detail=str(error))

    def _receive(self, deadline: float | None) -> Message | None:
        """Return the next message, None at the deadline. Raises when there can be no more."""
        while deadline is None or time.monotonic() < deadline:
            match self._next_message(deadline):
                case Failure(text=text) if self.collected is None:
                    self._end(WorkerFailedToStart(text, output=self._output.text()))
                case Failure(text=text):
                    # pytest broke; how its process ends comes next.
                    self._failure = text
                case Output() as message:
                    self._output.add(message.data)
                    return message
                case message:
                    return message
        return None

    def _next_message(self, deadline: float | None) -> Message | None:
        try:
            while (message := next(self._parsed, None)) is None:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                data = self._container.channel.receive(left)
                if data is None:
                    return None
                if not data:
                    self._die_of(None)
                self._parsed = self._mask(self._parser.feed(data))
        except (WireError, EngineError) as error:
            self._die(detail=str(error))
        return message

    def _send_setup(self) -> None:
        try:
            self._container.channel.send(self._setup.line())
            if self._setup.payload:
                self._container.channel.send(self._setup.payload)
        except EngineError as error:
            self._send_error = str(error)

    def _send(self, *requests: Mapping[str, object]) -> None:
        """Send requests. If the worker is gone, what it said last says why, so the next read raises."""
        self._sender.join(self._start_timeout)
        if self._sender.is_alive():
            self._send_error = "The container does not read what it is sent."
            return
        try:
            with self._sending:
                self._container.channel.send(b"".join(map(encoded, requests)))
        except EngineError as error:
            self._send_error = str(error)

    def _time_out(self, seconds: float, what: str = "The test did not end") -> NoReturn:
        """Let the worker say where it is, then end it."""
        stacks = _Tail(_KEPT_OUTPUT)
        self._send({"type": "dump"})
        end = time.monotonic() + _DUMP_SECONDS
        wait = end
        with suppress(WorkerDied, WorkerFailedToStart):
            while (message := self._receive(min(wait, end))) is not None:
                if isinstance(message, Output) and message.stream == "stderr":
                    stacks.add(message.data)
                    wait = time.monotonic() + _DUMP_QUIET_SECONDS
        self._end(WorkerTimeout(seconds, stacks.text(), what=what))

    def _die_of(self, message: Message | None) -> NoReturn:
        """End the session because of a message that should not be there, or of the end of the stream."""
        match message:
            case Exited(code=code, signal=signal, oom=oom):
                # The worker may be unable to see why the kernel killed it; the engine is not.
                oom = oom or (signal == signals.SIGKILL and self._status().out_of_memory)
                self._die(code=code, signal=signal, out_of_memory=oom)
            case None:
                status = self._status()
                code, killed = status.code, status.code is not None and status.code > 128
                self._die(
                    code=None if killed else code,
                    signal=code - 128 if code is not None and killed else None,
                    out_of_memory=status.out_of_memory,
                    detail=status.detail or self._send_error,
                )
            case _:
                self._die(detail=f"The worker sent a message that has no place here: {str(message)[:200]}")

    def _die(
        self, *, code: int | None = None, signal: int | None = None, out_of_memory: bool = False, detail: str = ""
    ) -> NoReturn:
        errors = self._container.channel.error_output().decode(errors="replace").strip()
        details = [self._masking.text(detail), self._failure, printable(self._masking.text(errors))]
        for held in self._mask.rest(last=True):
            self._output.add(held.data)
        self._end(
            WorkerDied(
                code=code,
                signal=signal,
                out_of_memory=out_of_memory,
                output=self._output.text(),
                detail="\n".join(filter(None, details)),
            )
        )

    def _end(self, error: ImageBuildError) -> NoReturn:
        self._over = error
        # What ended it is worth more than an engine that is gone: the next sweep finds what stays.
        with suppress(EngineError):
            self.stop()
        raise error

    def _status(self) -> ExitStatus:
        try:
            return self._container.wait(_EXIT_SECONDS)
        except (EngineError, TimeoutError) as error:
            return ExitStatus(code=None, detail=str(error))


class _Tail:
    """The end of a text."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._text = ""

    def add(self, text: str) -> None:
        self._text = (self._text + text[-self._size :])[-self._size :]

    def text(self) -> str:
        return self._text
