"""The life of the process that keeps containers: as long as one waits, or a run has one of them."""

from __future__ import annotations

import select
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from filelock import FileLock, Timeout

from pytest_imagebuild.engines.choose import choose_engine
from pytest_imagebuild.engines.pipes import PipeChannel
from pytest_imagebuild.engines.protocol import Container, ExitStatus, SessionSpec
from pytest_imagebuild.errors import EngineError
from pytest_imagebuild.keeping.answering import answer_for
from pytest_imagebuild.keeping.door import Line, ask, listen
from pytest_imagebuild.keeping.keeper import Keeper
from pytest_imagebuild.keeping.relay import Relay
from pytest_imagebuild.keeping.rows import spec_of

__all__ = ["serve"]

_TICK = 1.0
_SETTLING = 30.0
"""Seconds that another may take to begin, or to end."""
_LOOK = 0.05


def serve(
    engine_name: str, cache_dir: Path, place: Path, asked: Mapping[str, Any], *, listens: Callable[[], None]
) -> None:
    """Do what was `asked`, then what others ask, until nothing is left to keep. `listens` is called in between.

    Raises EngineError, OSError.
    """
    lock = FileLock(place / "lock")
    if not _alone(lock, place, asked):
        return
    with ExitStack() as undo:
        undo.callback(lock.release)
        engine = choose_engine(engine_name, run=uuid.uuid4().hex, cache_dir=cache_dir)
        undo.callback(engine.close)
        keeper = Keeper(engine)
        undo.callback(keeper.close)
        service = _Service(keeper, cache_dir)
        service.answer(asked)
        listener = undo.enter_context(closing(listen(place)))
        undo.callback((place / "socket").unlink, missing_ok=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end)
        listens()
        service.serve(listener)


class _Service:
    """What answers the connections."""

    def __init__(self, keeper: Keeper, cache_dir: Path) -> None:
        self._keeper = keeper
        self._cache_dir = cache_dir
        self._connected: set[Line] = set()

    def serve(self, listener: socket.socket) -> None:
        """Answer until no container waits and no connection is open."""
        while self._keeper.expire() or self._connected:
            if select.select([listener], [], [], _TICK)[0]:
                line = Line(listener.accept()[0])
                self._connected.add(line)
                threading.Thread(target=self._serve, args=(line,), name="imagebuild-line", daemon=True).start()

    def answer(self, asked: Mapping[str, Any]) -> dict[str, object]:
        """Do what is asked without a container, and return the answer."""
        match asked:
            case {"keep": list(rows), "run": str(run), "seconds": int() | float() as seconds}:
                wanted = [(key, spec) for key, *row in rows if (spec := spec_of(row)) is not None]
                return {"waiting": self._keeper.keep(run, wanted, seconds)}
            case {"let_go": True}:
                return {"ended": self._keeper.let_go()}
        return {"error": "unknown"}

    def _serve(self, line: Line) -> None:
        try:
            received = line.receive()
            asked: Mapping[str, Any] = received[0] if received else {}
            match asked:
                case {"take": [str(reference), str(key), *row]} if (spec := spec_of(row)) is not None:
                    self._lend(line, reference, key, spec)
                case {"engine": str(name)}:
                    answer_for(name, self._cache_dir, line)
                case _:
                    line.send(self._answer_or_why_not(asked))
        except (OSError, EngineError):
            pass  # whoever asked has gone, or the container has, which they find out
        finally:
            line.close()
            self._connected.discard(line)

    def _answer_or_why_not(self, asked: Mapping[str, Any]) -> dict[str, object]:
        try:
            return self.answer(asked)
        except EngineError as error:
            return {"error": str(error)}

    def _lend(self, line: Line, reference: str, key: str, spec: SessionSpec) -> None:
        container = self._keeper.take(reference, key, spec)
        if container is None:
            line.send({"taken": None})
            return
        try:
            relay = None
            if isinstance(container.channel, PipeChannel):
                line.send({"taken": container.id}, container.channel.streams)
            else:
                relay = Relay(container.channel)
                try:
                    line.send({"taken": container.id}, relay.streams)
                finally:
                    relay.lent()
            while (asked := line.receive(None)) is not None:
                line.send(_status(container, relay, asked[0]["wait"]))
        finally:
            container.stop()


def _status(container: Container, relay: Relay | None, timeout: float) -> dict[str, object]:
    try:
        status = container.wait(timeout)
    except (EngineError, TimeoutError) as error:
        status = ExitStatus(code=None, detail=str(error))
    detail = status.detail or (relay.error if relay is not None else "")
    return {"code": status.code, "oom": status.out_of_memory, "detail": detail}


def _alone(lock: FileLock, place: Path, asked: Mapping[str, Any]) -> bool:
    """Take the lock, or let the process that has it do what was asked: it may be about to listen, or to end."""
    end = time.monotonic() + _SETTLING
    while time.monotonic() < end:
        with suppress(Timeout):
            lock.acquire(timeout=0)
            return True
        if ask(place, asked) is not None:
            return False
        time.sleep(_LOOK)
    raise EngineError(f"the process that has {lock.lock_file} does not answer")


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)
