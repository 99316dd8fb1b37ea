"""What the process does that keeps containers: it starts them, hands each over to one run, and ends the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.protocol import Container, Engine, SessionSpec
from pytest_imagebuild.errors import EngineError

__all__ = ["MOST", "Keeper"]

MOST = 8
"""Containers that wait at once. The oldest goes when there are more."""

_AT_ONCE = 2
"""Containers that are started at once: whoever works here has other things to do."""

_NAMES = (Path("/etc/resolv.conf"), Path("/etc/hosts"))

_Wanted = tuple[BuiltLayer, SessionSpec]


@dataclass(eq=False, slots=True)
class _Waiting:
    """A container that nobody has come for. `until` is the time at which it ends, by the keeper's clock.

    `names` are the files from which it knows the names of the network, as they were.
    """

    wanted: _Wanted
    container: Future[Container]
    until: float
    names: tuple[bytes, ...]


class Keeper:
    """The containers that wait. Its methods may be called from several threads. `engine` is the caller's to close."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="imagebuild-keeper")
        self._guard = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._asked: tuple[str, list[_Wanted]] = "", []

    def keep(self, run: str, rows: Iterable[tuple[str, SessionSpec]], seconds: float) -> int:
        """Have a container wait for each row, by the key of its layer, for as many seconds; return how many wait.

        One that waits already is as good. The processes of one run need one each, of a row that several ask for.
        """
        wanted = [(layer, spec) for key, spec in rows if (layer := self._engine.find(key)) is not None]
        with self._guard:
            if self._asked[0] != run:
                self._asked = run, []
            asked = self._asked[1]
            asked += wanted
            until = self._clock() + seconds
            for each in wanted:
                same = [one for one in self._waiting if one.wanted == each][-asked.count(each) :]
                for one in same:
                    one.until = until
                for _ in range(asked.count(each) - len(same)):
                    self._waiting.append(_Waiting(each, self._pool.submit(self._start, each), until, _names()))
            self._end(self._waiting[:-MOST])
            return len(self._waiting)

    def take(self, reference: str, key: str, spec: SessionSpec) -> Container | None:
        """Return a container that waited, the caller's from now on; None if none does that lives.

        `reference` and `key` are those of its layer.
        """
        while (one := self._pop(reference, key, spec)) is not None:
            with suppress(EngineError):
                container = one.container.result()
                if _is_ready(container) and one.names == _names():
                    return container
            self._end_later(one)
        return None

    def let_go(self) -> int:
        """End all containers that wait, and return how many were."""
        with self._guard:
            waited = [*self._waiting]
            ends = self._end(waited)
        for end in ends:
            end.result()
        return len(waited)

    def expire(self) -> bool:
        """End the containers whose time is over, and say whether others wait."""
        with self._guard:
            now = self._clock()
            self._end(one for one in self._waiting if one.until <= now)
            return bool(self._waiting)

    def close(self) -> None:
        """End the containers that wait, at once."""
        self.let_go()
        self._pool.shutdown()

    def _start(self, wanted: _Wanted) -> Container:
        container = self._engine.start(*wanted)
        # Its files are looked at by now: whoever takes it need not wait for that.
        _is_ready(container)
        return container

    def _pop(self, reference: str, key: str, spec: SessionSpec) -> _Waiting | None:
        with self._guard:
            for one in self._waiting:
                layer, how = one.wanted
                if (layer.reference, layer.labels.key, how) == (reference, key, spec):
                    self._waiting.remove(one)
                    return one
        return None

    def _end(self, ended: Iterable[_Waiting]) -> list[Future[None]]:
        """Let containers wait no more. Called with the guard."""
        unwanted = [*ended]
        self._waiting = [one for one in self._waiting if one not in unwanted]
        return [self._end_later(one) for one in unwanted]

    def _end_later(self, one: _Waiting) -> Future[None]:
        return self._pool.submit(_stop, one)


def _names() -> tuple[bytes, ...]:
    """Return what a container is told of the network when it starts: a machine may have moved to another one since."""
    return tuple(path.read_bytes() if path.exists() else b"" for path in _NAMES)


def _is_ready(container: Container) -> bool:
    """Say whether a worker waits to be told what it is for: then it says nothing, where a dead one's words have ended.

    Raises EngineError.
    """
    return container.channel.receive(0) is None


def _stop(one: _Waiting) -> None:
    with suppress(EngineError):
        one.container.result().stop()
