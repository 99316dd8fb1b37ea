"""One pytest session: from the selected items to built images, started sessions and a dispatcher."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from pytest_imagebuild.build.progress import Display
from pytest_imagebuild.dispatch.dispatcher import Dispatcher
from pytest_imagebuild.dispatch.requests import Request, SessionKey, request_of
from pytest_imagebuild.dispatch.starter import SessionStarter
from pytest_imagebuild.dispatch.workspace import Workspace
from pytest_imagebuild.engines.choose import choose_engine
from pytest_imagebuild.engines.protocol import BuiltLayer, Service, ServiceSpec
from pytest_imagebuild.errors import (
    EngineError,
    EngineUnavailableError,
    ImageBuildError,
    LockfileError,
    UnknownVersionError,
)
from pytest_imagebuild.image.chain import Image
from pytest_imagebuild.options import Options

__all__ = ["Run"]

AHEAD = 4
"""Sessions that are started before their first item is due."""


class Run:
    """Everything that this plugin keeps for one pytest session that uses images."""

    def __init__(self, config: pytest.Config, options: Options, display: Display) -> None:
        self._config = config
        self._options = options
        self.display = display
        self.identity = _run_identity(config)
        self._workspace: Workspace | None = None
        self._dispatcher: Dispatcher | None = None

    @property
    def workspace(self) -> Workspace:
        """The engine and builder of this run, opened at first use. Raises pytest.UsageError."""
        if self._workspace is None:
            self._workspace = self._open()
        return self._workspace

    def prepare(self, items: Sequence[pytest.Item]) -> None:
        """Build the images of the selected items and start the first sessions. Raises pytest.UsageError."""
        requests = {item.nodeid: request for item in items if (request := request_of(item))}
        if not requests:
            return
        images = list(dict.fromkeys(request.session.image for request in requests.values()))
        built = self._build(images)
        layers = {image: layer for image, layer in built.items() if isinstance(layer, BuiltLayer)}
        starter = SessionStarter(self._config, self.workspace, layers, _files(items, requests))
        self._dispatcher = Dispatcher(self._config, requests, starter)
        for key in self._dispatcher.sessions:
            outcome = built[key.image]
            if not isinstance(outcome, BuiltLayer):
                self._dispatcher.fail(key, outcome)
        if not self._options.build_only:
            self._start_ahead(starter, [key for key in self._dispatcher.sessions if key.image in layers])

    def run(self, item: pytest.Item) -> bool:
        """Run `item` in its container, if it is marked. Returns whether it was."""
        return self._dispatcher is not None and self._dispatcher.run(item)

    def finish(self) -> None:
        """End sessions in order, with tear-downs."""
        if self._dispatcher:
            self._dispatcher.finish()

    def close(self) -> None:
        """End everything at once and let go of the engine."""
        if self._dispatcher:
            self._dispatcher.stop()
        if self._workspace:
            workspace, self._workspace = self._workspace, None
            workspace.close()

    def build(self, image: Image) -> BuiltLayer:
        """Build one image for a fixture of the host. Raises what kept it from being built."""
        with self.display.showing():
            outcome = self.workspace.build([image], for_tests=False)[image]
        if isinstance(outcome, Exception):
            raise outcome
        self._announce(image, outcome)
        return outcome

    def serve(self, layer: BuiltLayer, spec: ServiceSpec) -> Service:
        """Start a service container for a fixture of the host."""
        return self.workspace.engine.serve(layer, spec)

    def counts(self) -> dict[str, float | str]:
        """Return what the summary line tells of this process."""
        if self._workspace is None:
            return {"reused": 0, "built": 0, "seconds": 0.0, "engine": ""}
        tally = self._workspace.builder.tally
        name = self._workspace.engine.name
        return {"reused": tally.reused, "built": tally.built, "seconds": tally.seconds, "engine": name}

    def drop_after_workers(self) -> None:
        """Remove the throw-away layers of an xdist run, once its workers are gone."""
        if self._options.ignore_cache:
            workspace = self.workspace
            workspace.close()

    def _open(self) -> Workspace:
        try:
            engine = choose_engine(self._options.engine, run=self.identity, cache_dir=self._options.cache_dir)
            workspace = Workspace.open(
                engine,
                self._options,
                self.identity,
                self.display,
                drops=not hasattr(self._config, "workerinput"),
            )
            engine.sweep()
        except (EngineUnavailableError, LockfileError, UnknownVersionError) as error:
            raise pytest.UsageError(str(error)) from error
        return workspace

    def _build(self, images: Sequence[Image]) -> dict[Image, BuiltLayer | Exception]:
        with self.display.showing():
            built = self.workspace.build(images, for_tests=True)
        for error in built.values():
            if isinstance(error, (LockfileError, EngineUnavailableError)):
                raise pytest.UsageError(str(error)) from error
        for image, outcome in built.items():
            if isinstance(outcome, BuiltLayer):
                self._announce(image, outcome)
        return built

    def _announce(self, image: Image, layer: BuiltLayer) -> None:
        self._config.hook.pytest_image_built(
            config=self._config, image=image, key=layer.labels.key, reference=layer.reference
        )

    def _start_ahead(self, starter: SessionStarter, keys: Sequence[SessionKey]) -> None:
        dispatcher = self._dispatcher
        if dispatcher is None:
            return
        with ThreadPoolExecutor(max_workers=AHEAD, thread_name_prefix="imagebuild-start") as pool:
            started = {key: pool.submit(starter, key) for key in keys[:AHEAD]}
        for key, future in started.items():
            try:
                dispatcher.adopt(key, future.result())
            except (ImageBuildError, EngineError) as error:
                dispatcher.fail(key, error)


def _run_identity(config: pytest.Config) -> str:
    """Return an id that the processes of one xdist run share."""
    given = getattr(config, "workerinput", {}).get("testrunuid")
    return given if isinstance(given, str) else uuid.uuid4().hex


def _files(items: Sequence[pytest.Item], requests: dict[str, Request]) -> dict[SessionKey, list[str]]:
    files: dict[SessionKey, dict[str, None]] = {}
    for item in items:
        request = requests.get(item.nodeid)
        if request:
            files.setdefault(request.session, {})[str(item.path)] = None
    return {key: list(paths) for key, paths in files.items()}
