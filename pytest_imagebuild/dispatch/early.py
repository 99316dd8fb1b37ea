"""Containers that start while pytest still collects: those that this command line has needed the last time.

Nothing of the run is in them yet. Its sessions take them if they are exactly what they would have started.
This comes before the first test file: it imports what an engine needs, and no more.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import pytest

from pytest_imagebuild.engines.choose import choose_engine
from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.protocol import Container, Engine, SessionSpec
from pytest_imagebuild.errors import EngineError
from pytest_imagebuild.options import Options

__all__ = ["EarlyContainers", "begin_early", "row", "run_identity"]

_Wanted = tuple[BuiltLayer, SessionSpec]


class EarlyContainers:
    """Starts containers for whoever may want them, and ends those that nobody wants. `take` is for any thread.

    `engine` is the user's to close.
    """

    def __init__(self, engine: Engine, rows: Iterable[object]) -> None:
        self.engine = engine
        self._pool = ThreadPoolExecutor(thread_name_prefix="imagebuild-early")
        self._waiting: list[tuple[_Wanted, Future[Container]]] = []
        for key, spec in filter(None, map(_read, rows)):
            layer = engine.find(key)
            if layer is not None:
                self._waiting.append(((layer, spec), self._pool.submit(engine.start, layer, spec)))

    def keep(self, wanted: Iterable[_Wanted]) -> None:
        """End the containers that are none of `wanted`."""
        kept = [(one, started) for one in wanted if (started := self._pop(one)) is not None]
        unwanted, self._waiting = self._waiting, kept
        for _, started in unwanted:
            self._pool.submit(_end, started)

    def take(self, layer: BuiltLayer, spec: SessionSpec) -> Container | None:
        """Return a container that was started of `layer` as `spec` says, None if there is none."""
        started = self._pop((layer, spec))
        if started is not None:
            with suppress(EngineError):
                return started.result()
        return None

    def close(self) -> None:
        """End every container that nobody took."""
        self.keep(())
        self._pool.shutdown()

    def _pop(self, wanted: _Wanted) -> Future[Container] | None:
        for waiting in tuple(self._waiting):
            if waiting[0] == wanted:
                with suppress(ValueError):  # somebody else was faster
                    self._waiting.remove(waiting)
                    return waiting[1]
        return None


def begin_early(config: pytest.Config, rows: Sequence[object]) -> EarlyContainers | None:
    """Begin to start the containers that `row` has told of, as far as their layers are there.

    Returns None where that cannot be, or should not: whoever needs a container then tells why.
    """
    options = Options.from_config(config)
    if options.force_build or options.ignore_cache or options.build_only:
        return None
    with suppress(EngineError, OSError):
        engine = choose_engine(options.engine, run=run_identity(config), cache_dir=options.cache_dir)
        try:
            return EarlyContainers(engine, rows)
        except BaseException:
            engine.close()
            raise
    return None


def run_identity(config: pytest.Config) -> str:
    """Return an id that the processes of one xdist run share."""
    given = getattr(config, "workerinput", {}).get("testrunuid")
    return given if isinstance(given, str) else config.stash.setdefault(_IDENTITY, uuid.uuid4().hex)


_IDENTITY: pytest.StashKey[str] = pytest.StashKey()


def row(layer: BuiltLayer, spec: SessionSpec) -> Sequence[object] | None:
    """Return what is kept of a container for the next run, None for one that needs more than an image."""
    if spec.gpus or spec.volumes:
        return None
    return layer.labels.key, [*spec.command], spec.network, spec.memory, spec.cpu, spec.isolate


def _read(row: object) -> tuple[str, SessionSpec] | None:
    match row:
        case [
            str(key),
            list(command),
            str(network),
            int() | None as memory,
            int() | float() | None as cpu,
            bool(own),
        ]:
            return key, SessionSpec(
                command=tuple(map(str, command)), network=network, memory=memory, cpu=cpu, isolate=own
            )
    return None


def _end(started: Future[Container]) -> None:
    with suppress(EngineError):
        started.result().stop()
