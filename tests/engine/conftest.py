"""Engines under test. `IMAGEBUILD_TEST_ENGINES` (as in "memory,docker") restricts which."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import docker
import docker.errors
import pytest

from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.layers import BuiltLayer, LayerLabels
from pytest_imagebuild.engines.memory import CommandResult, MemoryEngine
from pytest_imagebuild.engines.protocol import Container, Engine, SessionSpec
from pytest_imagebuild.engines.work import ConfigChange, Work

if TYPE_CHECKING:
    from pytest_imagebuild.engines.embedded import EmbeddedEngine

BASE = "python:3.13-slim-trixie"
RUN = f"contract-{uuid.uuid4().hex[:12]}"
_numbers = itertools.count(1)


def _addresses() -> dict[str, str]:
    addresses = {"docker": os.environ.get("DOCKER_HOST", "")}
    if current := os.environ.get("IMAGEBUILD_TEST_DOCKER_CURRENT"):
        addresses["docker-current"] = current if "://" in current else f"unix://{current}"
    return addresses


EMBEDDED = "embedded"


ADDRESSES = _addresses()
CHOSEN = [name for name in os.environ.get("IMAGEBUILD_TEST_ENGINES", "").split(",") if name]
REAL = [name for name in (*ADDRESSES, EMBEDDED) if not CHOSEN or name in CHOSEN]
ALL = [*(["memory"] if not CHOSEN or "memory" in CHOSEN else []), *REAL]


@pytest.fixture(autouse=True)
def _bounded(request: pytest.FixtureRequest) -> Iterator[None]:
    """End a test that hangs, with a traceback of every thread."""
    import faulthandler

    faulthandler.dump_traceback_later(240, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    yield folder
    if os.geteuid() != 0 and (folder / "embedded").exists():
        _remove_layers(folder)


@contextlib.contextmanager
def opened(name: str, cache_dir: Path, run: str = RUN) -> Iterator[Engine]:
    if name == "memory":
        yield MemoryEngine(run=run, commands=locally)
        return
    if name == EMBEDDED:
        with _embedded(cache_dir, run) as embedded:
            yield embedded
        return
    from pytest_imagebuild.engines.docker import DockerEngine

    with pytest.MonkeyPatch.context() as patch:
        if ADDRESSES[name]:
            patch.setenv("DOCKER_HOST", ADDRESSES[name])
        engine = DockerEngine(run=run, cache_dir=cache_dir)
        engine.capabilities()
    # From here on it keeps to its daemon, whatever the environment says.
    yield engine
    engine.close()
    assert leftovers(name, run) == []


def _remove_layers(cache_dir: Path) -> None:
    """Remove files of subordinate ids, which pytest may not remove itself."""
    from pytest_imagebuild.engines.embedded import EmbeddedEngine

    engine = EmbeddedEngine(run=RUN, cache_dir=cache_dir)
    while any(engine.remove(layer) is not None for layer in engine.stored()):
        pass
    for remnant in engine.remnants():
        engine.remove(remnant)
    for path in (cache_dir / "embedded").rglob("trees/*"):
        engine._open().store.files.remove(path)
    engine.close()


@contextlib.contextmanager
def _embedded(cache_dir: Path, run: str) -> Iterator[Engine]:
    from pytest_imagebuild.engines.embedded import EmbeddedEngine

    engine = EmbeddedEngine(run=run, cache_dir=cache_dir)
    yield engine
    engine.close()
    assert [path.name for path in (cache_dir / "embedded").rglob(f"scratch/{run}-*/[0-9]*")] == []


def daemon(name: str) -> docker.DockerClient:
    """Talk to a daemon behind the back of an engine."""
    return docker.DockerClient(base_url=ADDRESSES[name] or None)


def leftovers(name: str, run: str) -> list[str]:
    """Remove what a run left in the engine; return the containers among it, of which there must be none."""
    api = daemon(name).api
    containers = [found["Id"] for found in api.containers(all=True, filters={"label": f"imagebuild.run={run}"})]
    for container in containers:
        api.remove_container(container, force=True, v=True)
    for image in sorted(api.images(filters={"label": f"imagebuild.run={run}"}), key=lambda image: -image["Created"]):
        for tag in image["RepoTags"] or [image["Id"]]:
            with contextlib.suppress(docker.errors.APIError):
                api.remove_image(tag, force=True)
    return containers


def locally(command: str, work: Work) -> CommandResult:
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={"PATH": os.environ["PATH"], **work.environment, **work.secrets},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
        check=False,
    )
    return CommandResult(exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr)


@pytest.fixture(scope="session", params=ALL)
def engine(request: pytest.FixtureRequest, cache_dir: Path) -> Iterator[Engine]:
    """Every adapter."""
    with opened(request.param, cache_dir) as engine:
        yield engine


@pytest.fixture(scope="session", params=REAL)
def real(request: pytest.FixtureRequest, cache_dir: Path) -> Iterator[Engine]:
    """Every adapter that runs containers."""
    with opened(request.param, cache_dir) as engine:
        yield engine


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEngine]:
    """An embedded engine with a store of its own, to look into and to damage."""
    from pytest_imagebuild.engines.embedded import EmbeddedEngine

    engine = EmbeddedEngine(run=RUN, cache_dir=tmp_path_factory.mktemp("cache"))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def base(embedded: EmbeddedEngine) -> BuiltLayer:
    """A base image in its store."""
    return embedded.import_base(BASE, embedded.pin_base(BASE, print), plain_labels(), print)


@dataclass
class Bench:
    """An engine with a base layer, and short ways to use it."""

    engine: Engine
    base: BuiltLayer
    lines: list[str] = field(default_factory=list)

    def labels(
        self,
        key: str | None = None,
        *,
        parent: str | None = None,
        namespace: str = "",
        generation: str = "",
        step: str = "",
        inputs: Mapping[str, str] | None = None,
    ) -> LayerLabels:
        return LayerLabels(
            key=key or new_key(),
            parent=self.base.labels.key if parent is None else parent,
            generation=generation,
            run=RUN,
            namespace=namespace,
            step=step,
            inputs=inputs or {},
        )

    def build(
        self,
        *commands: str,
        on: BuiltLayer | None = None,
        key: str | None = None,
        namespace: str = "",
        files: tuple[FileEntry, ...] = (),
        tools: tuple[FileEntry, ...] = (),
        environment: Mapping[str, str] | None = None,
        config: ConfigChange | None = None,
    ) -> BuiltLayer:
        work = Work(
            commands=commands, files=files, tools=tools, environment=environment or {}, config=config or ConfigChange()
        )
        return self.engine.build(on or self.base, work, self.labels(key, namespace=namespace), self.lines.append)

    def run(self, *commands: str, on: BuiltLayer | None = None, **more: object) -> str:
        work = Work(commands=commands, **more)  # type: ignore[arg-type]
        return self.engine.run(on or self.base, work, self.lines.append).decode()


def plain_labels(key: str | None = None) -> LayerLabels:
    return LayerLabels(key=key or new_key(), parent="", generation="", run=RUN)


def new_key() -> str:
    return f"{RUN}-{next(_numbers)}"


def _bench() -> Callable[[Engine], Bench]:
    bases: dict[Engine, BuiltLayer] = {}

    def bench(engine: Engine) -> Bench:
        if engine not in bases:
            bases[engine] = engine.import_base(BASE, engine.pin_base(BASE, print), plain_labels(), print)
        return Bench(engine=engine, base=bases[engine])

    return bench


_benches = _bench()


@pytest.fixture
def bench(engine: Engine) -> Bench:
    return _benches(engine)


@pytest.fixture
def box(real: Engine) -> Bench:
    """A bench of an engine that runs containers."""
    return _benches(real)


Sessions = Callable[..., Container]


@pytest.fixture
def sessions(box: Bench) -> Iterator[Sessions]:
    """Start sessions as specified, of the base or `on` another layer, and stop them afterwards."""
    with contextlib.ExitStack() as stack:

        def start(spec: SessionSpec, *, on: BuiltLayer | None = None) -> Container:
            container = box.engine.start(on or box.base, spec)
            stack.callback(container.stop)
            return container

        yield start


def to_the_end(container: Container) -> bytes:
    """Return what the main process prints until it ends."""
    data = b""
    while part := container.channel.receive(60):
        data += part
    assert part == b"", "it still runs"
    return data


def printed(container: Container) -> str:
    """Return that as text."""
    return to_the_end(container).decode()
