"""What a run knows of the process that keeps containers: it takes what waits, and asks for what the next will need."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.pipes import PipeChannel
from pytest_imagebuild.engines.protocol import Container, Engine, ExitStatus, SessionSpec
from pytest_imagebuild.engines.replacing import replace_text
from pytest_imagebuild.errors import EngineError
from pytest_imagebuild.keeping.door import Line, all_places, ask, call, near, place_of, silent
from pytest_imagebuild.keeping.rows import row_of

__all__ = ["Kept", "let_go"]

_PROGRAM = str(Path(__file__).with_name("__main__.py"))
_OF_COVERAGE = ("COV_CORE_", "COVERAGE_PROCESS_")
_NONE = "no container can be kept for the next run"
_START_SECONDS = 60.0
_ANSWER_SECONDS = 30.0


class Kept:
    """The containers of one run that may wait for it, and for the next one. Thread-safe.

    They are kept for so many `seconds`. `run` is what the processes of a run share, `asked` is what the user calls the
    engine.
    """

    def __init__(self, engine: Engine, cache_dir: Path, *, run: str, seconds: float, asked: str) -> None:
        self._engine = engine
        self._asked = asked
        self._cache_dir = cache_dir.absolute()
        self._run = run
        self._seconds = seconds
        self._taken: list[str] = []
        self._silent = 0

    @property
    def taken(self) -> int:
        """How many containers waited that this process has taken."""
        return len(self._taken)

    def start(self, layer: BuiltLayer, spec: SessionSpec) -> Container:
        """Return a container that waited, or start one. Raises EngineError."""
        container = self._take(layer, spec)
        if container is None:
            return self._engine.start(layer, spec)
        self._taken.append(container.id)
        return container

    def keep(self, wanted: Iterable[tuple[BuiltLayer, SessionSpec]]) -> None:
        """Have containers wait for the next run. Raises EngineError where nothing can keep them."""
        rows = [[layer.labels.key, *row] for layer, spec in wanted if (row := row_of(spec)) is not None]
        if not rows:
            return
        request = {"keep": rows, "run": self._run, "seconds": self._seconds}
        place = place_of(self._cache_dir, self._engine)
        if self._silent:
            raise silent(self._silent)
        answer = ask(place, request)
        if answer is None:
            _begin(self._engine.name, self._cache_dir, place, request)
        elif "error" in answer:
            raise EngineError(f"{_NONE}: {answer['error']}")
        _note(near(self._cache_dir, self._asked), str(place))

    def _take(self, layer: BuiltLayer, spec: SessionSpec) -> _Lent | None:
        row = row_of(spec)
        line = call(place_of(self._cache_dir, self._engine)) if row is not None and not layer.labels.namespace else None
        if row is None or line is None:
            return None
        try:
            line.send({"take": [layer.reference, layer.labels.key, *row]})
            match line.receive():
                case {"taken": str(name)}, [stdin, stdout, stderr]:
                    return _Lent(name, line, (stdin, stdout, stderr))
        except TimeoutError:
            self._silent = line.process()
        except OSError:
            pass
        line.close()
        return None


class _Lent:
    """A container that waited: its streams are this process's, its life depends on the connection."""

    def __init__(self, name: str, line: Line, streams: Sequence[int]) -> None:
        stdin, stdout, stderr = streams
        self._name = name
        self._line = line
        self._channel = PipeChannel(
            open(stdin, "wb", buffering=0),  # noqa: PTH123, SIM115 - the channel closes them
            open(stdout, "rb", buffering=0),  # noqa: PTH123, SIM115
            open(stderr, "rb", buffering=0),  # noqa: PTH123, SIM115
        )

    @property
    def id(self) -> str:
        """The engine's name of it."""
        return self._name

    @property
    def channel(self) -> PipeChannel:
        """The stream to its main process."""
        return self._channel

    def wait(self, timeout: float) -> ExitStatus:
        """Wait up to `timeout` seconds for the main process to end."""
        with suppress(OSError):
            self._line.send({"wait": timeout})
            match self._line.receive(timeout + _ANSWER_SECONDS):
                case {"code": int() | None as code, "oom": bool(oom), "detail": str(detail)}, _:
                    return ExitStatus(code=code, out_of_memory=oom, detail=detail)
        return ExitStatus(code=None, detail="The process that kept the container has ended.")

    def stop(self) -> None:
        """Have it killed and removed. Calling it again does nothing."""
        self._channel.close()
        self._line.close()


def let_go(cache_dir: Path, engine: Engine) -> int:
    """End the containers of an engine that wait for a run, of whichever process; return how many were.

    Raises EngineError for a process that does not answer.
    """
    answers = [ask(place, {"let_go": True}) or {} for place in all_places(cache_dir.absolute(), engine)]
    return sum(ended for answer in answers if isinstance(ended := answer.get("ended"), int))


def _note(path: Path, text: str) -> None:
    """Write a file, if it says anything else. A run does without it."""
    with suppress(OSError):
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            replace_text(path, text)


def _begin(engine: str, cache_dir: Path, place: Path, request: Mapping[str, object]) -> None:
    """Start a process that does what is asked first, and wait until it listens. Raises EngineError."""
    # Most runs find it there.
    import json  # noqa: PLC0415
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    # What measures this run is not to measure a process that outlives it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OF_COVERAGE)}
    command = [sys.executable, _PROGRAM, engine, str(cache_dir), str(place), json.dumps(request)]
    try:
        place.mkdir(parents=True, mode=0o700, exist_ok=True)
        started = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env=environment,
            check=False,
            timeout=_START_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineError(f"{_NONE}: {error}") from error
    if started.returncode:
        problem = started.stderr.decode(errors="replace").strip()
        raise EngineError(f"{_NONE}: {problem}")
