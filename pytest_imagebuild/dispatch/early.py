"""Sessions that begin while pytest still collects: those that this command line has needed the last time.

Their workers are told what they were told then, with the files that there are now, and collect side by side with the
pytest here. The run takes them if they are exactly what it would have started. Where a worker is told more, by a marker
or a hook, only its container is started.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pytest_imagebuild.engines.choose import choose_engine
from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.protocol import Container, Engine, SessionSpec
from pytest_imagebuild.errors import EngineError, ImageBuildError
from pytest_imagebuild.keeping.rows import row_of, spec_of
from pytest_imagebuild.options import Options

if TYPE_CHECKING:
    from pytest_imagebuild.keeping.kept import Kept
    from pytest_imagebuild.session.session import Session
    from pytest_imagebuild.session.setup import Setup

__all__ = ["EarlyContainers", "Told", "begin_early", "engine_for", "kept_by", "row", "run_identity"]

_START_SECONDS = 0.03

_Wanted = tuple[BuiltLayer, SessionSpec]


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What the worker of a session is told that no other run has to find out: the rest is the run's, or as ever.

    `definition` is that of the image, `files` is what it collects, and `path` is for the front of its `sys.path`.
    """

    definition: str
    files: tuple[str, ...]
    path: tuple[str, ...]


@dataclass(eq=False, slots=True)
class _Begun:
    """A container that starts. With a `setup`, its worker is told that, and to collect."""

    wanted: _Wanted
    container: Future[Container]
    told: Told | None = None
    setup: Setup | None = None
    session: Future[Session] | None = None


class EarlyContainers:
    """Starts containers for whoever may want them, and ends those that nobody wants. `take` is for any thread.

    `engine` is the user's to close. Those are taken first that are `kept`.
    """

    def __init__(self, engine: Engine, rows: Iterable[object], kept: Kept | None = None) -> None:
        self.engine = engine
        self.kept = kept
        start = kept.start if kept is not None else engine.start
        self._pool = ThreadPoolExecutor(thread_name_prefix="imagebuild-early")
        self._waiting: list[_Begun] = []
        self._refused: list[Told | None] = []
        for key, spec, told in filter(None, map(_read, rows)):
            layer = engine.find(key)
            if layer is not None:
                wanted = layer, spec
                self._waiting.append(_Begun(wanted, self._pool.submit(start, layer, spec), told))

    def tell(self, setup_of: Callable[[BuiltLayer, SessionSpec, Told], Setup]) -> None:
        """Let the workers begin to collect of which a row says what they were told the last time."""
        for begun in self._waiting:
            if begun.told is not None:
                begun.setup = setup_of(*begun.wanted, begun.told)
                begun.session = self._pool.submit(_collecting, begun.container, begun.setup, begun.told.files)

    def let_start(self) -> None:
        """Wait a moment: while this thread does something, those that start a container wait for the interpreter."""
        wait([begun.container for begun in self._waiting], timeout=_START_SECONDS)

    def keep(self, wanted: Iterable[_Wanted]) -> None:
        """End the containers that are none of `wanted`."""
        kept = filter(None, [self._pop(partial(_fits, one)) for one in wanted])
        unwanted, self._waiting = self._waiting, [*kept]
        for begun in unwanted:
            self._pool.submit(_end, begun)

    def take(self, layer: BuiltLayer, spec: SessionSpec) -> Container | None:
        """Return a container that was started of `layer` as `spec` says, None if there is none."""
        begun = self._pop(lambda begun: _fits((layer, spec), begun) and begun.session is None)
        with suppress(EngineError):
            return begun.container.result() if begun is not None else None
        return None

    def session(self, layer: BuiltLayer, spec: SessionSpec, setup: Setup) -> Session | None:
        """Return the session in a container, as `take` does, whose worker was told what `setup` says, and to collect.

        One that was told something else is ended.
        """
        begun = self._pop(lambda begun: _fits((layer, spec), begun) and begun.setup == setup)
        if begun is None:
            begun = self._pop(lambda begun: _fits((layer, spec), begun) and begun.session is not None)
            if begun is not None:
                self._refused.append(begun.told)
                self._pool.submit(_end, begun)
            return None
        with suppress(EngineError):
            return begun.session.result() if begun.session is not None else None
        return None

    def trusts(self, told: Told | None) -> bool:
        """Say whether a worker that was told this was not told it in vain."""
        return told not in self._refused

    def close(self) -> None:
        """End every container that nobody took."""
        self.keep(())
        self._pool.shutdown()

    def _pop(self, fits: Callable[[_Begun], bool]) -> _Begun | None:
        for begun in filter(fits, tuple(self._waiting)):
            with suppress(ValueError):  # somebody else was faster
                self._waiting.remove(begun)
                return begun
        return None


def begin_early(config: pytest.Config, rows: Sequence[object]) -> EarlyContainers | None:
    """Begin to start the containers that `row` has told of, as far as their layers are there.

    Returns None where that cannot be, or should not: whoever needs a container then tells why.
    """
    options = Options.from_config(config)
    if options.force_build or options.ignore_cache or options.build_only:
        return None
    with suppress(EngineError, OSError):
        engine = engine_for(options, run=run_identity(config), meanwhile=_load)
        with ExitStack() as undo:
            undo.callback(engine.close)
            early = EarlyContainers(engine, rows, kept_by(options, engine, run=run_identity(config)))
            undo.callback(early.close)
            early.let_start()
            from pytest_imagebuild.dispatch.telling import telling  # noqa: PLC0415 - while the containers start

            # What is wrong is told when it is needed.
            with suppress(ImageBuildError, OSError):
                early.tell(telling(config, options, engine))
            undo.pop_all()
        return early
    return None


def _load() -> None:
    """Load what tells workers what to do, which takes a while."""
    import pytest_imagebuild.dispatch.telling  # noqa: PLC0415
    import pytest_imagebuild.session.session  # noqa: F401, PLC0415


def engine_for(options: Options, *, run: str, meanwhile: Callable[[], object] = bool) -> Engine:
    """Return the engine of a run; where containers were kept, what the process says of it that keeps them.

    `meanwhile` is done while that process is waited for. Raises as `choose_engine` does.
    """
    if options.keep is not None:
        from pytest_imagebuild.keeping.nearby import nearby  # noqa: PLC0415 - only such a run pays for it

        engine = nearby(options.engine, run=run, cache_dir=options.cache_dir, meanwhile=meanwhile)
        if engine is not None:
            return engine
    return choose_engine(options.engine, run=run, cache_dir=options.cache_dir)


def kept_by(options: Options, engine: Engine, *, run: str) -> Kept | None:
    """Return what keeps containers for this run and the next, None where nothing does."""
    if options.keep is None:
        return None
    from pytest_imagebuild.keeping.kept import Kept  # noqa: PLC0415 - only such a run pays for it

    return Kept(engine, options.cache_dir, run=run, seconds=options.keep, asked=options.engine)


def run_identity(config: pytest.Config) -> str:
    """Return an id that the processes of one xdist run share."""
    given = getattr(config, "workerinput", {}).get("testrunuid")
    return given if isinstance(given, str) else config.stash.setdefault(_IDENTITY, uuid.uuid4().hex)


_IDENTITY: pytest.StashKey[str] = pytest.StashKey()


def row(layer: BuiltLayer, spec: SessionSpec, told: Told | None = None) -> Sequence[object] | None:
    """Return what is kept of a session for the next run, None for one that needs more than an image."""
    how = row_of(spec)
    worker = None if told is None else [told.definition, [*told.files], [*told.path]]
    return None if how is None else [layer.labels.key, *how, worker]


def _read(row: object) -> tuple[str, SessionSpec, Told | None] | None:
    match row:
        case [str(key), *how, worker] if (spec := spec_of(how)) is not None:
            return key, spec, _read_told(worker)
    return None


def _read_told(worker: object) -> Told | None:
    match worker:
        case [str(definition), list(files), list(path)]:
            return Told(definition=definition, files=tuple(map(str, files)), path=tuple(map(str, path)))
    return None


def _fits(wanted: _Wanted, begun: _Begun) -> bool:
    return begun.wanted == wanted


def _collecting(container: Future[Container], setup: Setup, files: Sequence[str]) -> Session:
    from pytest_imagebuild.session.session import Session  # noqa: PLC0415 - while the container starts

    session = Session(container.result(), setup)
    session.begin()
    session.collect(files)
    return session


def _end(begun: _Begun) -> None:
    with suppress(EngineError):
        if begun.session is not None:
            begun.session.result().stop()
        else:
            begun.container.result().stop()
