"""One pytest session: from the selected items to built images, started sessions and a dispatcher."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING

import pytest

from pytest_imagebuild.build.progress import Display
from pytest_imagebuild.dispatch import reports
from pytest_imagebuild.dispatch.console import Console
from pytest_imagebuild.dispatch.covering import left_out
from pytest_imagebuild.dispatch.dispatcher import AT_ONCE, Dispatcher
from pytest_imagebuild.dispatch.early import EarlyContainers, engine_for, kept_by, run_identity
from pytest_imagebuild.dispatch.gpus import missing_gpus, reports_of_missing
from pytest_imagebuild.dispatch.invocation import OwnRun
from pytest_imagebuild.dispatch.replay import SUMMARIES
from pytest_imagebuild.dispatch.requests import Request, SessionKey, requests_of
from pytest_imagebuild.dispatch.starter import SessionStarter
from pytest_imagebuild.dispatch.workspace import Workspace
from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.errors import (
    EngineError,
    EngineUnavailableError,
    ImageBuildError,
    LockfileError,
    UnknownVersionError,
    disk_is_full,
)
from pytest_imagebuild.image.chain import Image
from pytest_imagebuild.last_time import remember
from pytest_imagebuild.options import Options
from pytest_imagebuild.session.session import Session
from pytest_imagebuild.worker.marker import label_of
from pytest_imagebuild.worker.words import known_plugins

if TYPE_CHECKING:
    from pytest_imagebuild.engines.gpus.inventory import GpuInventory
    from pytest_imagebuild.engines.protocol import Service
    from pytest_imagebuild.engines.services import ServiceSpec
    from pytest_imagebuild.keeping.kept import Kept

__all__ = ["Run"]

NAMED = 4
"""Images that the header names."""


class Run:
    """Everything that this plugin keeps for one pytest session that uses images."""

    def __init__(
        self, config: pytest.Config, options: Options, display: Display, early: EarlyContainers | None = None
    ) -> None:
        self._config = config
        self._options = options
        self.display = display
        self.identity = run_identity(config)
        self.console = Console(config)
        self.labels: list[str] = []
        """What the ids of tests show that run in one of several images."""
        self._workspace: Workspace | None = None
        self._dispatcher: Dispatcher | None = None
        self._is_worker = hasattr(config, "workerinput")
        self._outcomes: dict[Image, BuiltLayer | Exception] = {}
        self._layers: dict[Image, BuiltLayer] = {}
        self._starter: SessionStarter | None = None
        self._early = early
        self._kept = early.kept if early else None
        self._first: Mapping[SessionKey, Sequence[str]] | None = None
        self._begun: dict[SessionKey, Session] = {}
        self._refusal = ""
        self._without_gpu: Mapping[pytest.Item, str] = {}

    @property
    def workspace(self) -> Workspace:
        """The engine and builder of this run, opened at first use. Raises pytest.UsageError."""
        __tracebackhide__ = True
        if self._workspace is None:
            self._workspace = self._open()
        return self._workspace

    def prepare(self, items: Sequence[pytest.Item]) -> None:
        """Build the images of the selected items and start the first sessions.

        Raises pytest.UsageError; in an xdist worker, which that would kill, every marked item fails with it instead.
        """
        try:
            requests = requests_of(items)
            self.labels = _labels(requests)
            if requests:
                requests = self._with_gpus(requests)
            if requests:
                self._dispatcher = self._prepare(requests)
        except pytest.UsageError as error:
            if not self._is_worker:
                raise
            self._refusal = str(error)

    def run(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Run `item` in its container, if it is marked. Returns whether it was."""
        if self._refusal and (item.get_closest_marker("image") or isinstance(getattr(item, "request", None), Request)):
            reports.publish(item, nextitem, reports.setup_error(item, self._refusal))
            return True
        if item in self._without_gpu:
            fail = self._options.gpu_missing == "fail"
            reports.publish(item, nextitem, reports_of_missing(item, self._without_gpu[item], fail=fail))
            return True
        return self._dispatcher is not None and self._dispatcher.run(item, nextitem)

    def shell(self, item: pytest.Item) -> int:
        """Let the user have a shell in the container of `item`. Returns its exit code. Raises pytest.UsageError."""
        if item in self._without_gpu:
            raise pytest.UsageError(f"--image-shell: {self._without_gpu[item]}")
        self.display.note(f"a shell in the container of {item.nodeid}; pytest ends with it")
        try:
            code = self._dispatcher.shell(item) if self._dispatcher is not None else None
        except ImageBuildError as error:
            raise pytest.UsageError(str(error)) from error
        if code is None:
            raise pytest.UsageError(
                f"--image-shell: {item.nodeid} runs on the host: it has no image, and no container."
            )
        return code

    def begin(self, wanted: Mapping[SessionKey, OwnRun]) -> dict[SessionKey, Session | Exception]:
        """Build the images of sessions that collect by themselves and start them, or return what keeps them from it.

        Raises pytest.UsageError.
        """
        built = self._build(list(dict.fromkeys(key.image for key in wanted)))
        begun: dict[SessionKey, Session | Exception] = {}
        for key, own in wanted.items():
            outcome = built[key.image]
            if not isinstance(outcome, BuiltLayer):
                begun[key] = outcome
                continue
            starter = self._sessions()
            starter.own[key] = own
            try:
                begun[key] = self._begun[key] = starter.begin(key)
            except ImageBuildError as error:
                begun[key] = error
        return begun

    def collect(self, key: SessionKey, arguments: Sequence[str]) -> None:
        """Tell a session that collects by itself what to collect; one that takes its place is told the same."""
        self._sessions().collected[key] = arguments
        self._begun[key].collect(arguments, known_plugins(self._config))

    def end_begun(self) -> None:
        """End the sessions that have no items to run."""
        while self._begun:
            _, session = self._begun.popitem()
            with suppress(EngineError):
                session.stop()

    def broken(self, item: pytest.Item) -> bool:
        """Tell whether the image of `item` could not be built."""
        return bool(self._refusal) or (self._dispatcher is not None and self._dispatcher.broken(item))

    def finish(self) -> None:
        """End sessions in order, with tear-downs."""
        if self._dispatcher:
            self._dispatcher.finish()
        # Not before: pytest makes the folder of its cache in the project, which containers are given.
        if self._first is not None and not self._is_worker:
            rows = (self._sessions().row(key, files) for key, files in self._first.items())
            remember(self._config, list(filter(None, rows)))
        if self._kept is not None and self._first is not None and not self._options.ignore_cache:
            self._keep(self._kept, self._first)

    def close(self) -> None:
        """End everything at once and let go of the engine."""
        if self._dispatcher:
            self._dispatcher.stop()
        self.end_begun()
        if self._early:
            self._early.close()
        if self._workspace:
            workspace, self._workspace = self._workspace, None
            workspace.close()
        elif self._early:
            self._early.engine.close()
        self._early = None

    def build(self, image: Image) -> BuiltLayer:
        """Build one image for a fixture of the host. Raises what kept it from being built."""
        __tracebackhide__ = True
        with self._uncaptured(), self.display.showing():
            outcome = self.workspace.build([image], for_tests=False)[image]
        if isinstance(outcome, Exception):
            raise outcome
        self._announce(image, outcome)
        return outcome

    def serve(self, layer: BuiltLayer, spec: ServiceSpec) -> Service:
        """Start a service container for a fixture of the host."""
        __tracebackhide__ = True
        return self.workspace.engine.serve(layer, spec)

    def counts(self) -> dict[str, float | str]:
        """Return what the summary line tells of this process."""
        if self._workspace is None:
            return {"reused": 0, "built": 0, "seconds": 0.0, "engine": "", "kept": 0}
        tally = self._workspace.builder.tally
        name = self._workspace.engine.name
        kept = self._kept.taken if self._kept is not None else 0
        return {"reused": tally.reused, "built": tally.built, "seconds": tally.seconds, "engine": name, "kept": kept}

    @property
    def summaries(self) -> list[tuple[str, str]]:
        """What plugins of images say at the end, each with what the ids of tests show of the image."""
        return self._config.stash.get(SUMMARIES, [])

    def remarks(self) -> list[str]:
        """Return what else the user should know at the end."""
        if files := left_out(self._config):
            return [f"coverage of {files} files is left out: only images have them, and coverage's [paths] maps none"]
        return []

    def drop_after_workers(self) -> None:
        """Remove the throw-away layers of an xdist run, once its workers are gone."""
        if self._options.ignore_cache:
            workspace = self.workspace
            workspace.close()

    def _with_gpus(self, requests: Mapping[pytest.Item, Request]) -> dict[pytest.Item, Request]:
        """Leave out the items for which there is no GPU here: their images need not be built."""
        if not self._options.build_only:
            self._without_gpu = missing_gpus(requests, self._look_for_gpus)
        return {item: request for item, request in requests.items() if item not in self._without_gpu}

    def _look_for_gpus(self) -> GpuInventory:
        return self.workspace.engine.gpus()

    def _prepare(self, requests: Mapping[pytest.Item, Request]) -> Dispatcher:
        """Build what the items ask for, and return what runs them. Raises pytest.UsageError."""
        built = self._build(list(dict.fromkeys(request.session.image for request in requests.values())))
        engine, leases = self.workspace.engine, self.workspace.builder.leases
        starter = self._sessions()
        dispatcher = Dispatcher(
            self._config,
            requests,
            starter,
            engine.capabilities(),
            gpus=engine.gpus,
            leases=leases,
            console=self.console,
        )
        for key in dispatcher.sessions:
            outcome = built[key.image]
            if not isinstance(outcome, BuiltLayer):
                dispatcher.fail(key, outcome)
            elif key in self._begun:
                dispatcher.adopt(key, self._begun.pop(key))
        self.end_begun()
        if not self._options.build_only:
            # One with a GPU starts when its turn comes: until then, somebody else may need it.
            sound = [
                key
                for key in dispatcher.sessions
                if isinstance(built[key.image], BuiltLayer) and not key.gpu and key.collects is None
            ]
            # Which of its items an xdist worker will run, nobody knows yet.
            first = sound[: 1 if self._is_worker else AT_ONCE]
            containers = starter.containers(first)
            if self._early:
                self._early.keep(containers)
            dispatcher.start(first)
            self._first = {key: dispatcher.files(key) for key in first}
        return dispatcher

    def _uncaptured(self) -> AbstractContextManager[None]:
        """Let a build that a test waits for be seen."""
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        disabled: AbstractContextManager[None] = capture.global_and_fixture_disabled() if capture else nullcontext()
        return disabled

    def _keep(self, kept: Kept, keys: Iterable[SessionKey]) -> None:
        """Have containers wait for the next run. A run that has gone well does not fail for it."""
        try:
            kept.keep([self._sessions().container(key) for key in keys])
        except ImageBuildError as error:
            self.display.note(str(error))

    def _open(self) -> Workspace:
        __tracebackhide__ = True
        try:
            engine = self._early.engine if self._early else engine_for(self._options, run=self.identity)
            workspace = Workspace.open(
                engine,
                self._options,
                self.identity,
                self.display,
                drops=not self._is_worker,
            )
            workspace.builder.sweep()
            if self._early is None:
                self._kept = kept_by(self._options, engine, run=self.identity)
        except (EngineError, LockfileError, UnknownVersionError) as error:
            raise pytest.UsageError(str(error)) from error
        except OSError as error:
            raise self._unusable(error) from error
        return workspace

    def _unusable(self, error: OSError) -> pytest.UsageError:
        advice = "Make room there, or set IMAGEBUILD_CACHE_DIR to a folder on a larger disk."
        if not disk_is_full(error):
            advice = "Set IMAGEBUILD_CACHE_DIR to a folder that you may write to."
        return pytest.UsageError(f"the cache folder {self._options.cache_dir} cannot be used: {error}. {advice}")

    def _sessions(self) -> SessionStarter:
        """Return what starts sessions, of the images that are built when it is asked to."""
        if self._starter is None:
            workspace = self.workspace
            self._starter = SessionStarter(
                self._config,
                workspace,
                self._layers,
                self.display.note,
                start=self._kept.start if self._kept is not None else workspace.engine.start,
                early=self._early,
            )
        return self._starter

    def _build(self, images: Sequence[Image]) -> Mapping[Image, BuiltLayer | Exception]:
        """Build what this run has not built before. Raises pytest.UsageError."""
        if missing := [image for image in images if image not in self._outcomes]:
            self._outcomes.update(self._built_now(missing))
        return self._outcomes

    def _built_now(self, images: Sequence[Image]) -> dict[Image, BuiltLayer | Exception]:
        try:
            with self.display.showing():
                built = self.workspace.build(images, for_tests=True)
        except OSError as error:
            raise self._unusable(error) from error
        for outcome in built.values():
            if isinstance(outcome, (LockfileError, EngineUnavailableError)):
                raise pytest.UsageError(str(outcome)) from outcome
        sound = {image: outcome for image, outcome in built.items() if isinstance(outcome, BuiltLayer)}
        if self._config.hook.pytest_image_built.get_hookimpls():
            for image, layer in sound.items():
                # Below the runtime layer is the image as its definition says.
                self._announce(image, self.workspace.engine.find(layer.labels.parent, layer.labels.namespace) or layer)
        self._layers.update(sound)
        if sound:
            self.display.note(self._header(list(sound)))
        return built

    def _header(self, images: Sequence[Image]) -> str:
        """Return the line that says where the tests will run."""
        names = list(dict.fromkeys(image.label for image in images))
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        engine = self.workspace.engine
        return f"{', '.join(names[:NAMED])}{more} on {engine.name} {engine.capabilities().version}"

    def _announce(self, image: Image, layer: BuiltLayer) -> None:
        self._config.hook.pytest_image_built(
            config=self._config, image=image, key=layer.labels.key, reference=layer.reference
        )


def _labels(items: Iterable[pytest.Item]) -> list[str]:
    found = {getattr(item, "image_label", None) or label_of(item) for item in items}
    return sorted(label for label in found if label)
