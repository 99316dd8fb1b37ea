"""One run's engine, pins and builder: made when the first image is needed, closed when pytest ends."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from pytest_imagebuild.build.builder import ImageBuilder
from pytest_imagebuild.build.lockstore import LockMode, LockStore
from pytest_imagebuild.build.pins import Pins
from pytest_imagebuild.build.progress import Progress
from pytest_imagebuild.build.settings import BuildMode, BuildSettings
from pytest_imagebuild.build.work import StepNetwork
from pytest_imagebuild.engines.network import HostNetwork
from pytest_imagebuild.engines.protocol import BuiltLayer, Engine
from pytest_imagebuild.errors import ImageBuildError
from pytest_imagebuild.image.builder import Builder
from pytest_imagebuild.image.chain import Image
from pytest_imagebuild.options import Options
from pytest_imagebuild.plan.builders import choose
from pytest_imagebuild.plan.plan import Plan, plan_image
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
        pins = Pins.read(LockStore(options.lockfile, options.cache_dir), mode, capabilities.platform)
        return cls(
            engine=engine,
            builder=ImageBuilder(engine, pins, settings, progress),
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
        outcome: dict[Image, BuiltLayer | Exception] = {}
        plans: dict[Image, Plan] = {}
        for image in dict.fromkeys(images):
            try:
                plan = self._plan(image)
                plans[image] = with_runtime(plan) if for_tests else plan
            except (ImageBuildError, OSError) as error:
                outcome[image] = error
        for image, future in zip(plans, self.builder.build_all(list(plans.values())), strict=True):
            outcome[image] = _outcome(future)
        return outcome

    def lock(self, images: Sequence[Image], *, prune: bool) -> dict[Image, BuiltLayer | Exception]:
        """Record pins for everything that `images` leave open, building only what resolving needs.

        With `prune`, records that none of `images` uses are dropped, if all images could be resolved.
        """
        outcome: dict[Image, BuiltLayer | Exception] = {}
        plans: dict[Image, Plan] = {}
        for image in dict.fromkeys(images):
            try:
                plans[image] = _open_part(self._plan(image))
            except (ImageBuildError, OSError) as error:
                outcome[image] = error
        for image, future in zip(plans, self.builder.build_all(list(plans.values())), strict=True):
            outcome[image] = _outcome(future)
        if prune and all(isinstance(layer, BuiltLayer) for layer in outcome.values()):
            self.builder.pins.prune()
        return outcome

    def close(self) -> None:
        """Drop what this run must not leave, and let go of the engine."""
        try:
            if self.options.ignore_cache and self.drops:
                self.engine.drop(self.run)
        finally:
            self.engine.close()

    def _plan(self, image: Image) -> Plan:
        if image not in self._plans:
            self._plans[image] = plan_image(image, self.version)
        return self._plans[image]


def _open_part(plan: Plan) -> Plan:
    """Return the part of a plan up to its last layer that the lockfile pins."""
    last = max(n for n, layer in enumerate(plan.layers) if layer.base is not None or layer.install is not None)
    return replace(plan, layers=plan.layers[: last + 1])


def _outcome(future: Future[BuiltLayer]) -> BuiltLayer | Exception:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, ImageBuildError):
        return explain(error)
    if isinstance(error, OSError):
        return error
    raise error
