"""Make one layer on an engine: pin what it leaves open, then execute it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from urllib.parse import quote

from pytest_imagebuild.build.functions import function_advice, function_tools
from pytest_imagebuild.build.installs import UV, advice, tool_of
from pytest_imagebuild.build.pins import Pins
from pytest_imagebuild.build.registry_login import credentials_of
from pytest_imagebuild.build.settings import BuildSettings
from pytest_imagebuild.build.volumes import provide
from pytest_imagebuild.build.work import commands_for_people, dockerfile_work, layer_work, resolving_work
from pytest_imagebuild.dockerfile import DockerfileError
from pytest_imagebuild.engines.credentials import Credentials
from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.layers import BasePin, BuiltLayer, LayerLabels
from pytest_imagebuild.engines.protocol import Engine, Output
from pytest_imagebuild.engines.work import CommandFailed, Work
from pytest_imagebuild.errors import ImageBuildError, StepError
from pytest_imagebuild.image.builder import Builder
from pytest_imagebuild.image.instructions import AddPython, Install, UvPipInstall, UvSync
from pytest_imagebuild.image.wording import without_credentials
from pytest_imagebuild.lockfile import Pin
from pytest_imagebuild.masking import SHORTEST, Masking
from pytest_imagebuild.plan.context import check_unchanged
from pytest_imagebuild.plan.dockerfiles import refused
from pytest_imagebuild.plan.plan import PlannedLayer
from pytest_imagebuild.plan.runtime import python_missing
from pytest_imagebuild.plan.secret_values import read_secrets

__all__ = ["LayerMaker", "LayerPins"]

OUTPUT_LINES = 40
_WITH_UV = (AddPython, UvPipInstall, UvSync)

LayerPins = BasePin | tuple[Pin, ...] | dict[str, BasePin] | None
"""What the lockfile says of a layer: a base's digest, an install's packages, the base images that a Dockerfile takes,
nothing for other steps.
"""

Bases = Callable[[Mapping[str, BasePin]], Mapping[str, BuiltLayer]]
"""Has pinned base images in the engine, as layers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerMaker:
    """Executes layers of one builder version on one engine, with GPUs where `gpus` has ids.

    `bases` brings what Dockerfiles take.
    """

    engine: Engine
    pins: Pins
    settings: BuildSettings
    platform: str
    builder: Builder
    bases: Bases
    gpus: tuple[str, ...] = ()

    def resolve(self, layer: PlannedLayer, parent: BuiltLayer | None, output: Output) -> LayerPins:
        """Return the layer's pins; resolves and records them where the lockfile has none."""
        if layer.base is not None:
            reference = layer.base
            return self.pins.resolve_base(layer, lambda: self._pin_base(layer, reference, output))
        if layer.dockerfile is not None:
            return self.pins.resolve_references(layer, lambda reference: self.engine.pin_base(reference, output))
        if layer.install is None or parent is None:
            return None
        return self.pins.resolve_packages(
            layer, layer.install, lambda install, kept: self._ask(layer, install, kept, parent, output)
        )

    def make(
        self, layer: PlannedLayer, parent: BuiltLayer | None, pins: LayerPins, labels: LayerLabels, output: Output
    ) -> BuiltLayer:
        """Execute the layer and keep it.

        At the user's line, raises StepError when a command of it fails, PythonMissingError when there is none for its
        function, SecretError for a secret that is not there, and DefinitionError when a volume is missing or a local
        file is not what it was.
        """
        check_unchanged((*layer.files, *layer.tools), layer.where)
        if layer.dockerfile is not None and isinstance(pins, dict):
            return self._make_dockerfile(layer, parent, self.bases(pins), labels, output)
        if parent is None:
            if layer.base is None or not isinstance(pins, BasePin):
                raise AssertionError("only a base layer has no parent")
            with self._logged_in(layer, layer.base, output) as (credentials, masked):
                return self.engine.import_base(layer.base, pins, labels, masked, credentials)
        packages = pins if isinstance(pins, tuple) else ()
        with self._disclosed(layer, output) as (values, masked):
            tools = self._tools(layer)
            work = layer_work(layer, packages, self.settings.network, tools, secrets=values, gpus=self.gpus)
            work = replace(work, volumes=provide(self.engine, layer.volumes, layer.where))
            self._warn_of_limits(work, masked)
            try:
                return self.engine.build(parent, work, labels, masked)
            except CommandFailed as failure:
                raise self._failure(layer, failure, pinned=bool(packages)) from None

    def _pin_base(self, layer: PlannedLayer, reference: str, output: Output) -> BasePin:
        with self._logged_in(layer, reference, output) as (credentials, masked):
            return self.engine.pin_base(reference, masked, credentials)

    def _make_dockerfile(
        self,
        layer: PlannedLayer,
        parent: BuiltLayer | None,
        bases: Mapping[str, BuiltLayer],
        labels: LayerLabels,
        output: Output,
    ) -> BuiltLayer:
        """Let the engine execute Dockerfile lines. Raises StepError or DefinitionError with both lines of the user."""
        planned = layer.dockerfile
        if planned is None:
            raise AssertionError("only a layer of Dockerfile lines comes here")
        with self._disclosed(layer, output) as (values, masked):
            work = dockerfile_work(layer, planned, bases, self.settings.network, secrets=values)
            try:
                return self.engine.build_dockerfile(parent, work, labels, masked)
            except DockerfileError as error:
                raise refused(planned, error, layer.title, layer.where) from error
            except CommandFailed as failure:
                place, command = planned.place(failure.index), planned.command(failure.index)
                raise StepError(
                    step=f"{layer.title}, {place}",
                    command=without_credentials(command),
                    exit_code=failure.exit_code,
                    output="\n".join(failure.output.splitlines()[-OUTPUT_LINES:]),
                    where=layer.where,
                ) from None

    def _ask(
        self, layer: PlannedLayer, install: Install, kept: Sequence[Pin], parent: BuiltLayer, output: Output
    ) -> tuple[Pin, ...]:
        """Ask the installer, in a container of the parent. Where the kept versions do not fit, ask without them."""
        with self._disclosed(layer, output) as (values, masked):
            work = resolving_work(layer, install, kept, self.settings.network, self._tools(layer), secrets=values)
            try:
                printed = self.engine.run(parent, work, masked)
            except CommandFailed as failure:
                if kept:
                    return self._ask(layer, install, (), parent, output)
                raise self._step_error(layer, failure) from None
            pins = tool_of(install).parse(printed.decode("utf-8", errors="replace"))
            return tuple(_without_values(pin, work.secrets) for pin in pins)

    def _tools(self, layer: PlannedLayer) -> tuple[FileEntry, ...]:
        if layer.function is not None:
            return function_tools(layer.function)
        needs = next((item for item in layer.instructions if isinstance(item, _WITH_UV)), None)
        if needs is None:
            return ()
        # It loads an HTTP client, which a run that only looks up does not need.
        from pytest_imagebuild.build.uv import uv_binary  # noqa: PLC0415

        settings = self.settings
        return (
            uv_binary(
                self.builder,
                None if isinstance(needs, AddPython) else needs.uv_version,
                self.platform,
                cache_dir=settings.cache_dir,
                environment=settings.environment,
                target=UV,
            ),
        )

    @contextmanager
    def _disclosed(self, layer: PlannedLayer, output: Output) -> Iterator[tuple[Mapping[str, str], Output]]:
        """Give the variables of the layer's secrets, and an output that masks their values; errors are masked too."""
        values = read_secrets(layer.secrets, self.settings.environment, where=layer.where)
        masking = Masking(values.values())
        with _masked(masking):
            yield values, _masked_output(masking, output)

    @contextmanager
    def _logged_in(
        self, layer: PlannedLayer, reference: str, output: Output
    ) -> Iterator[tuple[Credentials | None, Output]]:
        """Give the credentials of a base image, and an output that masks them; errors are masked too."""
        if layer.login is None:
            yield None, output
            return
        values = read_secrets([layer.login.secret], self.settings.environment, where=layer.where)
        with _masked(Masking(values.values())):
            credentials = credentials_of(layer.login, values, reference, layer.where)
        masking = Masking([*values.values(), credentials.password])
        with _masked(masking):
            yield credentials, _masked_output(masking, output)

    def _warn_of_limits(self, work: Work, output: Output) -> None:
        asked = {"memory": work.memory, "cpu": work.cpu}
        for name, sentence in self.engine.capabilities().unenforced.items():
            if asked[name] is not None:
                output(f"{name}= cannot be held here. {sentence}")

    def _failure(self, layer: PlannedLayer, failure: CommandFailed, *, pinned: bool) -> ImageBuildError:
        if layer.function is None:
            return self._step_error(layer, failure, advice(failure.exit_code, failure.output) if pinned else "")
        missing = python_missing("Functions", layer.where, failure.exit_code, failure.output)
        return missing or self._step_error(layer, failure, function_advice(layer.function, failure))

    def _step_error(self, layer: PlannedLayer, failure: CommandFailed, helps: str = "") -> StepError:
        tail = failure.output.splitlines()[-OUTPUT_LINES:]
        return StepError(
            step=layer.title,
            command=commands_for_people(layer, self.builder, failure.index),
            exit_code=failure.exit_code,
            output="\n".join(tail),
            where=layer.where,
            advice=helps or _advice_of_killed(failure),
        )


def _advice_of_killed(failure: CommandFailed) -> str:
    if failure.exit_code != 128 + signal.SIGKILL:
        return ""
    return "It was killed (SIGKILL): for want of memory, or because the engine was stopped. Run again."


def _masked_output(masking: Masking, output: Output) -> Output:
    return (lambda line: output(masking.text(line))) if masking else output


@contextmanager
def _masked(masking: Masking) -> Iterator[None]:
    """Mask what the errors of a build say. Their way here is cut off: it leads through frames that hold values."""
    try:
        yield
    except ImageBuildError as error:
        if not masking:
            raise
        error.args = (masking.text(str(error)),)
        if isinstance(error, StepError):
            error.command, error.output = masking.text(error.command), masking.text(error.output)
        raise error.with_traceback(None) from None


def _without_values(pin: Pin, secrets: Mapping[str, str]) -> Pin:
    """Put the names of variables for the values that an address has taken from them: what installs it reads them."""
    url = pin.url
    for name, value in sorted(secrets.items(), key=lambda item: -len(item[1])) if url else ():
        if len(value) >= SHORTEST:
            for form in dict.fromkeys((value, quote(value), quote(value, safe=""))):
                url = url.replace(form, f"${{{name}}}")
    return replace(pin, url=url)
