"""One run's engine, pins and builder: made when the first image is needed, closed when pytest ends."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pytest_imagebuild.build.builder import ImageBuilder
from pytest_imagebuild.build.lockstore import LockMode, LockStore
from pytest_imagebuild.build.names import Names
from pytest_imagebuild.build.pins import Pins
from pytest_imagebuild.build.progress import Heard, Progress
from pytest_imagebuild.build.settings import BuildMode, BuildSettings, StepNetwork
from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.network import HostNetwork
from pytest_imagebuild.engines.protocol import Engine
from pytest_imagebuild.errors import ImageBuildError
from pytest_imagebuild.image.builder import Builder
from pytest_imagebuild.image.chain import Image
from pytest_imagebuild.lockfile import Lockfile
from pytest_imagebuild.options import Options
from pytest_imagebuild.plan.builders import choose
from pytest_imagebuild.plan.plan import Plan, PlannedLayer, plan_image
from pytest_imagebuild.session.runtime import explain, with_runtime

__all__ = ["Workspace"]


@dataclass(kw_only=True, slots=True)
class Workspace:
    """What builds the images of one run.

    `run` is shared by the processes of a run (xdist); the one that ends last `drops` the throw-away layers.
    """

    engine: Engine
    builder: ImageBuilder
    version: Builder
    network: HostNetwork
    options: Options
    run: str
    drops: bool
    _plans: dict[Image, Plan] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        engine: Engine,
        options: Options,
        run: str,
        progress: Progress,
        *,
        drops: bool = True,
        environ: Mapping[str, str] = os.environ,
    ) -> Workspace:
        """Contact the engine and read the lockfile.

        Raises EngineUnavailableError, LockfileError, UnknownVersionError.
        """
        network = HostNetwork.from_environment(environ)
        variables, tools, reach = network.for_steps()
        settings = BuildSettings(
            run=run,
            cache_dir=options.cache_dir,
            mode=BuildMode(force=options.force_build, ignore_cache=options.ignore_cache),
            network=StepNetwork(environment=variables, tools=tools, network=reach),
            environment=environ,
        )
        mode = LockMode(
            locked=options.locked, upgrade=options.upgrade is not None, names=options.upgrade or frozenset()
        )
        version = choose(environ, options.builder_version)
        capabilities = engine.capabilities()
        pins = Pins.read(LockStore(options.lockfile, options.cache_dir), mode, capabilities.platform, run=run)
        builder = ImageBuilder(engine, pins, settings, progress)
        builder.look_ahead()
        return cls(
            engine=engine,
            builder=builder,
            version=version,
            network=network,
            options=options,
            run=run,
            drops=drops,
        )

    def build(self, images: Sequence[Image], *, for_tests: bool) -> dict[Image, BuiltLayer | Exception]:
        """Build images side by side; each gets its top layer, or the exception that kept it from being built.

        `for_tests` adds the runtime layer.
        """
        plans, failures = self._plans_of(images)
        outcome: dict[Image, BuiltLayer | Exception] = {**failures}
        wanted = [with_runtime(plan) if for_tests else plan for plan in plans.values()]
        for image, future in zip(plans, self.builder.build_all(wanted), strict=True):
            outcome[image] = _failure(future) or future.result()
        return outcome

    def lock(self, images: Sequence[Image], *, prune: bool) -> dict[Image, Exception | None]:
        """Record pins for everything that `images` leave open, building only what resolving needs.

        Each image gets None, or the exception that kept it from being resolved. With `prune`, records that none of
        `images` uses are dropped, if all images could be resolved.
        """
        plans, failures = self._plans_of(images)
        outcome: dict[Image, Exception | None] = {**failures}
        for image, future in zip(plans, self.builder.lock_all(list(plans.values())), strict=True):
            outcome[image] = _failure(future)
        if prune and not any(outcome.values()):
            self.builder.pins.prune()
        return outcome

    def stale(self, images: Sequence[Image], *, prune: bool) -> list[str]:
        """Say what `lock` would have to change, a line each. Raises what is wrong with the first wrong image."""
        plans, failures = self._plans_of(images)
        for error in failures.values():
            raise error
        pins = self.builder.pins
        layers = {layer.definition: layer for plan in plans.values() for layer in plan.layers}
        pins.use(layers.values())
        unused = pins.unused() if prune else Lockfile()
        return [
            *(f"no record for {layer.title}{_at(layer)}" for layer in layers.values() if pins.lacks(layer)),
            *(f"no image uses the record of {record.reference}" for record in unused.bases),
            *(f"no image uses the record of {record.tool} {' '.join(record.request)}" for record in unused.layers),
        ]

    @contextmanager
    def heard(self, image: Image, lines: list[str]) -> Iterator[None]:
        """Note meanwhile what the steps of an image print. Raises what is wrong with its definition."""
        progress = self.builder.progress
        definitions = {layer.definition for layer in self._plan(image).layers}
        self.builder.progress = Heard(progress, definitions, lines)
        try:
            yield
        finally:
            self.builder.progress = progress

    def publish(self, layer: BuiltLayer, name: str) -> None:
        """Give the image of a layer a name, by which a chain can begin with it. Raises EngineError."""
        names = Names(self.options.cache_dir, self.engine.capabilities().identity)
        names.publish(name, layer, self.engine, self.run, lambda _: None)

    def close(self) -> None:
        """Drop what this run must not leave, and let go of the engine."""
        try:
            self.builder.close()
            if self.options.ignore_cache and self.drops:
                self.engine.drop(self.run)
        finally:
            self.engine.close()

    def _plans_of(self, images: Sequence[Image]) -> tuple[dict[Image, Plan], dict[Image, Exception]]:
        """Return the plans of images, and what kept the others from having one."""
        plans: dict[Image, Plan] = {}
        failures: dict[Image, Exception] = {}
        for image in dict.fromkeys(images):
            try:
                plans[image] = self._plan(image)
            except (ImageBuildError, OSError) as error:
                failures[image] = error
        return plans, failures

    def _plan(self, image: Image) -> Plan:
        if image not in self._plans:
            self._plans[image] = plan_image(image, self.version)
        return self._plans[image]


def _at(layer: PlannedLayer) -> str:
    return f" at {layer.where}" if layer.where else ""


def _failure(future: Future[Any]) -> Exception | None:
    error = future.exception()
    if error is None or isinstance(error, OSError):
        return error
    if isinstance(error, ImageBuildError):
        return explain(error)
    raise error
