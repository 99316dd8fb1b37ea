"""Make one layer on an engine: pin what it leaves open, then execute it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_imagebuild.build.installs import UV, advice, tool_of
from pytest_imagebuild.build.pins import Pins
from pytest_imagebuild.build.settings import BuildSettings
from pytest_imagebuild.build.work import commands_for_people, layer_work, resolving_work
from pytest_imagebuild.engines.protocol import (
    BasePin,
    BuiltLayer,
    CommandFailed,
    Engine,
    FileEntry,
    LayerLabels,
    Output,
)
from pytest_imagebuild.errors import StepError
from pytest_imagebuild.image.builder import Builder
from pytest_imagebuild.image.instructions import Install, UvPipInstall
from pytest_imagebuild.lockfile import Pin
from pytest_imagebuild.plan.plan import PlannedLayer

__all__ = ["LayerMaker", "LayerPins"]

OUTPUT_LINES = 40

LayerPins = BasePin | tuple[Pin, ...] | None
"""What the lockfile says of a layer: a base's digest, an install's packages, nothing for other steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerMaker:
    """Executes layers of one builder version on one engine."""

    engine: Engine
    pins: Pins
    settings: BuildSettings
    platform: str
    builder: Builder

    def resolve(self, layer: PlannedLayer, parent: BuiltLayer | None, output: Output) -> LayerPins:
        """Return the layer's pins; resolves and records them where the lockfile has none."""
        if layer.base is not None:
            reference = layer.base
            return self.pins.resolve_base(layer, lambda: self.engine.pin_base(reference, output))
        if layer.install is None or parent is None:
            return None
        return self.pins.resolve_packages(
            layer, layer.install, lambda install, kept: self._ask(layer, install, kept, parent, output)
        )

    def make(
        self, layer: PlannedLayer, parent: BuiltLayer | None, pins: LayerPins, labels: LayerLabels, output: Output
    ) -> BuiltLayer:
        """Execute the layer and keep it. Raises StepError at the user's line when a command of it fails."""
        if parent is None:
            if layer.base is None or not isinstance(pins, BasePin):
                raise AssertionError("only a base layer has no parent")
            return self.engine.import_base(layer.base, pins, labels, output)
        packages = pins if isinstance(pins, tuple) else ()
        work = layer_work(layer, packages, self.settings.network, self._tools(layer))
        try:
            return self.engine.build(parent, work, labels, output)
        except CommandFailed as failure:
            helps = advice(failure.exit_code, failure.output) if packages else ""
            raise self._step_error(layer, failure, helps) from None

    def _ask(
        self, layer: PlannedLayer, install: Install, kept: Sequence[Pin], parent: BuiltLayer, output: Output
    ) -> tuple[Pin, ...]:
        """Ask the installer, in a container of the parent. Where the kept versions do not fit, ask without them."""
        work = resolving_work(layer, install, kept, self.settings.network, self._tools(layer))
        try:
            printed = self.engine.run(parent, work, output)
        except CommandFailed as failure:
            if kept:
                return self._ask(layer, install, (), parent, output)
            raise self._step_error(layer, failure) from None
        return tool_of(install).parse(printed.decode("utf-8", errors="replace"))

    def _tools(self, layer: PlannedLayer) -> tuple[FileEntry, ...]:
        if not isinstance(layer.install, UvPipInstall):
            return ()
        # It loads an HTTP client, which a run that only looks up does not need.
        from pytest_imagebuild.build.uv import uv_binary  # noqa: PLC0415

        settings = self.settings
        return (
            uv_binary(
                self.builder,
                layer.install.uv_version,
                self.platform,
                cache_dir=settings.cache_dir,
                environment=settings.environment,
                target=UV,
            ),
        )

    def _step_error(self, layer: PlannedLayer, failure: CommandFailed, helps: str = "") -> StepError:
        tail = failure.output.splitlines()[-OUTPUT_LINES:]
        return StepError(
            step=layer.title,
            command=commands_for_people(layer, self.builder, failure.index),
            exit_code=failure.exit_code,
            output="\n".join(tail),
            where=layer.where,
            advice=helps,
        )
