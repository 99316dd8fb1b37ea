"""The main process of a session container. Runs in the container: imports the standard library only.

It forks before pytest is imported. The child becomes the worker; this process stays small, so it lives
on when the worker crashes, and does what process 1 of a container owes: it reaps, and passes signals on.
It also keeps the wire clean: the worker's real output and its messages come through pipes of their own
and leave through one stream. When its input ends, the controller is gone, and everything here ends too.
"""

from __future__ import annotations

import codecs
import contextlib
import faulthandler
import io
import json
import os
import re
import select
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from pytest_imagebuild.worker.protocol import MAX_LINE, encode
from pytest_imagebuild.worker.streams import Inbox, Outbox, read_available

if TYPE_CHECKING:
    from pytest_imagebuild.worker.console import Console

__all__ = ["DUMP_SIGNAL", "main"]

DUMP_SIGNAL = signal.SIGRTMAX - 3
"""Makes the worker print the stacks of its threads. A real-time signal: tests may use the named ones."""

_FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_HIGH_WATER = 4 * 1024 * 1024
_PIPE_CAPACITY = 1024 * 1024
_WIRE_CHUNK = 65536
_LAST_WORDS_SECONDS = 10.0
_SETTLE_MILLISECONDS = 5
_LULL_SECONDS = 0.002
_ITEM_ENDS = re.compile(rb'^\{"type":"(?:done|missing)",.*$', re.MULTILINE)
_decoder = codecs.getincrementaldecoder("utf-8")
_OOM_COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


class _ControllerGone(Exception):
    """The input ended, or nobody reads the output."""


def main() -> int:
    """Fork the worker and serve it until it ends. Returns the exit status, in either process."""
    requests_end, requests = os.pipe()
    wire, wire_end = os.pipe()
    out, out_end = os.pipe()
    err, err_end = os.pipe()
    typed_end, typed = os.pipe()
    signal.signal(DUMP_SIGNAL, signal.SIG_IGN)
    child = os.fork()
    if child == 0:
        for fd in (requests, wire, out, err, typed):
            os.close(fd)
        return _become_worker(requests_end, wire_end, out_end, err_end, typed_end)
    for fd in (requests_end, wire_end, out_end, err_end, typed_end):
        os.close(fd)
    return _Supervisor(child, requests=requests, wire=wire, out=out, err=err, typed=typed).serve()


def _become_worker(requests: int, wire: int, out: int, err: int, typed: int) -> int:
    """Be a plain Python process in a session of its own, whose streams are the pipes; then be the worker."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd, stream in ((null, 0), (out, 1), (err, 2)):
        os.dup2(fd, stream)
        os.close(fd)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A copy of the pipe, because pytest puts files of its own at 1 and 2 while it captures.
    stacks = os.dup(2)
    faulthandler.enable(file=stacks)
    faulthandler.register(DUMP_SIGNAL, file=stacks, all_threads=True)
    for text in (sys.stdout, sys.stderr):
        if isinstance(text, io.TextIOWrapper):
            text.reconfigure(line_buffering=True)
    from pytest_imagebuild.worker import worker  # noqa: PLC0415 - only the child needs it

    return worker.main(requests, wire, typed)


class _Supervisor:
    """The loop of the parent. `child` is the worker's process id, the rest are the near ends of its pipes."""

    def __init__(self, child: int, *, requests: int, wire: int, out: int, err: int, typed: int) -> None:
        self._child = child
        self._typed = typed
        self._status: int | None = None
        self._ooms = _oom_kills()
        self._poll = select.poll()
        self._inbox = Inbox()
        self._to_child = Outbox(requests, self._poll)
        self._to_controller = Outbox(1, self._poll)
        self._console: Console | None = None
        self._wire = wire
        self._asked = 0
        self._tail = bytearray()
        self._outputs = {out: ("stdout", _decoder("replace")), err: ("stderr", _decoder("replace"))}
        self._input_paused = False
        self._output_paused = False
        self._wakeup = self._watch_signals()
        self._callbacks = {
            0: self._on_input,
            self._wakeup: self._on_signal,
            wire: self._on_wire,
            out: self._on_output,
            err: self._on_output,
            self._to_child.fd: self._on_room,
            self._to_controller.fd: self._on_room,
        }
        for fd in (0, self._wakeup, wire, out, err):
            os.set_blocking(fd, False)
            self._poll.register(fd, select.POLLIN)
        self._output_poll = select.poll()
        for fd in self._outputs:
            self._output_poll.register(fd, select.POLLIN)

    def serve(self) -> int:
        """Multiplex until the worker ended or the controller is gone; leave no process behind."""
        try:
            self._reap()
            while self._status is None:
                for fd, _ in self._poll.poll():
                    self._callbacks[fd](fd)
                self._regulate()
                if self._asked > 1:
                    # The worker has more to do and waits for nobody: to be woken for each small test costs more than
                    # it takes to run.
                    time.sleep(_LULL_SECONDS)
            code = self._say_how_it_ended(self._status)
        except (_ControllerGone, BrokenPipeError):
            code = 128 + signal.SIGKILL
        finally:
            self._kill_everything()
        return code

    def _on_input(self, fd: int) -> None:
        try:
            data = os.read(fd, _PIPE_CAPACITY)
        except BlockingIOError:
            return
        if not data:
            raise _ControllerGone
        for kind, part in self._inbox.feed(data):
            if kind == "dump":
                self._signal_child(DUMP_SIGNAL)
            elif kind in ("terminal", "resize", "input"):
                self._on_console(kind, json.loads(part))
            else:
                self._asked += kind == "run"
                self._tell_child(part)

    def _on_console(self, kind: str, request: Mapping[str, Any]) -> None:
        """Do what the controller's terminal did."""
        if kind == "terminal":
            self._open_console(request)
        elif self._console is not None:
            with contextlib.suppress(OSError):
                if kind == "resize":
                    self._console.resize(request)
                else:
                    self._console.type(request["data"])

    def _open_console(self, request: Mapping[str, Any]) -> None:
        """Make what the worker asked for, and answer it."""
        if self._console is None:
            from pytest_imagebuild.worker.console import Console  # noqa: PLC0415 - few runs need it

            self._console = Console(self._typed, self._poll)
        place, output = self._console.open(request), self._console.output
        if (writer := self._console.writes_to) is not None:
            self._callbacks[writer] = self._on_room
        if output is not None and output not in self._outputs:
            self._outputs[output] = ("terminal", _decoder("replace"))
            self._callbacks[output] = self._on_output
            self._output_poll.register(output, select.POLLIN)
            self._poll.register(output, select.POLLIN)
        self._tell_child(encode({"type": "answer", "value": place}))

    def _tell_child(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._to_child.send(data)

    def _on_wire(self, fd: int) -> None:
        data = os.read(fd, _WIRE_CHUNK)
        if not data:
            self._poll.unregister(fd)
            return
        # What a test printed before its report was sent is in the pipes by now, so it goes first.
        # The kernel takes a moment to bring it through a pseudo-terminal.
        for output, _ in self._output_poll.poll(_SETTLE_MILLISECONDS if self._console is not None else 0):
            self._forward_output(output)
        # Other messages may only come between whole lines.
        head, newline, rest = data.rpartition(b"\n")
        if newline:
            lines = bytes(self._tail) + head + newline
            self._to_controller.send(lines)
            self._count_ends(lines)
            self._tail = bytearray(rest)
        else:
            self._tail += rest
        if len(self._tail) > MAX_LINE:
            self._to_controller.send(bytes(self._tail))
            self._tail.clear()

    def _count_ends(self, lines: bytes) -> None:
        for end in _ITEM_ENDS.findall(lines):
            self._asked = 0 if end.endswith(b'"waits":true}') else self._asked - 1

    def _on_output(self, fd: int) -> None:
        if not self._forward_output(fd):
            self._poll.unregister(fd)

    def _on_signal(self, fd: int) -> None:
        read_available(fd, 1)
        self._reap()

    def _on_room(self, fd: int) -> None:
        if fd == self._to_controller.fd:
            self._to_controller.flush()
            return
        if self._console is not None and fd == self._console.writes_to:
            self._console.flush()
            return
        try:
            self._to_child.flush()
        except BrokenPipeError:
            self._poll.unregister(fd)

    def _forward_output(self, fd: int) -> bool:
        """Send on what is in an output pipe. Returns False at its end."""
        data = read_available(fd, _PIPE_CAPACITY)
        stream, decoder = self._outputs[fd]
        text = decoder.decode(data or b"")
        if text:
            self._to_controller.send(encode({"type": "output", "stream": stream, "data": text}))
        return data is not None

    def _regulate(self) -> None:
        """Stop reading from a side while the other side does not take what it is given."""
        full = len(self._to_child) > _HIGH_WATER
        if full != self._input_paused:
            self._input_paused = full
            # Not unregistered: it still has to tell when the controller hangs up.
            self._poll.modify(0, 0 if full else select.POLLIN)
        full = len(self._to_controller) > _HIGH_WATER
        if full != self._output_paused:
            self._output_paused = full
            for fd in (self._wire, *self._outputs):
                if full:
                    with contextlib.suppress(KeyError):
                        self._poll.unregister(fd)
                else:
                    self._poll.register(fd, select.POLLIN)

    def _watch_signals(self) -> int:
        """Pass signals on to the worker, and make the end of a child wake the loop."""
        read, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        for number in _FORWARDED:
            signal.signal(number, self._forward_signal)
        return read

    def _forward_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signal_child(number)

    def _signal_child(self, number: int) -> None:
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, number)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._child:
                    self._status = status

    def _say_how_it_ended(self, status: int) -> int:
        """Forward what the worker left in its pipes, then tell how it ended. Returns our own exit status."""
        for output in self._outputs:
            self._forward_output(output)
        rest = bytes(self._tail) + (read_available(self._wire, _PIPE_CAPACITY) or b"")
        # A line that the worker could not finish is no message.
        self._to_controller.send(rest[: rest.rfind(b"\n") + 1])
        code = os.waitstatus_to_exitcode(status)
        message: dict[str, object] = {"type": "exited", "code": None, "signal": None, "oom": _oom_kills() > self._ooms}
        message["code" if code >= 0 else "signal"] = abs(code)
        self._to_controller.send(encode(message))
        self._to_controller.flush_all(_LAST_WORDS_SECONDS)
        return code if code >= 0 else 128 - code

    def _kill_everything(self) -> None:
        """Kill all processes of the container; outside of one, the worker's process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpid() == 1:
                os.kill(-1, signal.SIGKILL)
            else:
                os.killpg(self._child, signal.SIGKILL)


def _oom_kills() -> int:
    """Return how many processes the kernel killed here for want of memory, as far as it tells (cgroup 2, then 1)."""
    for path in _OOM_COUNTERS:
        try:
            lines = Path(path).read_text("ascii").splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
