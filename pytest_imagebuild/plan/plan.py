"""A plan: the layers that an image is made of, in order, each with what its key is made of.

`plan_image` reads local files and validates what can be known before a build. A layer's key also needs the lockfile's
pins and its parent's generation, so keys come from `PlannedLayer.inputs`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeGuard

from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.layers import BasePin
from pytest_imagebuild.errors import DefinitionError, SourceLocation
from pytest_imagebuild.image.builder import Builder
from pytest_imagebuild.image.canonical import digest
from pytest_imagebuild.image.chain import Image
from pytest_imagebuild.image.recipe import definition_of
from pytest_imagebuild.image.step import LayerSpec, Step
from pytest_imagebuild.plan.keys import KeyInputs, contents_digest, pins_digest

if TYPE_CHECKING:
    from pytest_imagebuild.image.gpu import GpuRequest
    from pytest_imagebuild.image.instructions import Install, Instruction
    from pytest_imagebuild.image.secret import RegistrySecret, Secret
    from pytest_imagebuild.image.volume import Mounted
    from pytest_imagebuild.lockfile import Pin
    from pytest_imagebuild.plan.dockerfiles import PlannedDockerfile
    from pytest_imagebuild.plan.functions import PlannedFunction

PART_LENGTH = 60

__all__ = ["Plan", "PlannedLayer", "base_layer", "local_python", "plan_image"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedLayer:
    """One layer to be.

    `title` is the step in the user's own words. `base` is the reference of a base layer, else None. `files` enter the
    layer; `tools`, and what `gpu` asks for, the best first, are there while it is made; `contents` is the digest of
    both; `function` is called. Of `secrets`, the names of the variables enter the key, and never the values; `login` is
    for the registry of `base` and enters none. `definition` is the digest of what the chain says up to this layer, the
    same on every machine: pins stay outside, and so do local contents and the code of functions, but for requirement
    files, which say what is asked for. It names the lockfile's record and the build lock. `volumes` are mounted while
    it is made: of them, path, name and whether they can be written to are part of `step`, contents never. A layer
    of Dockerfile lines has `dockerfile`; its `files` are the build context, as `DockerfileWork` has it.
    """

    title: str
    where: SourceLocation | None
    force: bool
    base: str | None
    root: str
    instructions: tuple[Instruction, ...]
    environment: tuple[tuple[str, str], ...] = field(repr=False)  # as in `Step.build_env`
    files: tuple[FileEntry, ...]
    tools: tuple[FileEntry, ...]
    contents: str
    step: str
    definition: str
    volumes: Mounted = ()
    secrets: tuple[Secret, ...] = ()
    login: RegistrySecret | None = None
    function: PlannedFunction | None = None
    gpu: tuple[GpuRequest, ...] = ()
    dockerfile: PlannedDockerfile | None = None

    @property
    def install(self) -> Install | None:
        """The install instruction that leaves open what it installs, so that the lockfile pins it; None without one."""
        return next((item for item in self.instructions if _is_open(item)), None)

    def inputs(
        self,
        *,
        builder: str,
        platform: str,
        parent: str,
        generation: str,
        pins: Iterable[Pin] | BasePin | Mapping[str, BasePin] | None,
    ) -> KeyInputs:
        """Return what this layer's key is made of, on a given parent and with given pins."""
        return KeyInputs(
            builder=builder,
            platform=platform,
            parent=parent,
            generation=generation,
            step=self.step,
            contents=self.contents,
            pins=pins_digest(pins),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All layers of an image, base first."""

    image: Image
    builder: Builder
    layers: tuple[PlannedLayer, ...]

    def with_layer(self, layer: PlannedLayer) -> Plan:
        """Return a plan with one more layer on top."""
        return replace(self, layers=(*self.layers, layer))


def local_python() -> str:
    """Return the series of the Python that pytest runs on, which `debian_slim()` takes: `3.13`."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def plan_image(image: Image, builder: Builder) -> Plan:
    """Lower a chain to its layers and read their local files.

    Raises DefinitionError at the user's line for what a chain call got wrong.
    """
    image.check()
    layers: list[PlannedLayer] = []
    for number, step in enumerate(map(_loaded, image.steps)):
        specs = step.layers(builder, local_python())
        for spec in specs:
            title = step.describe() if len(specs) == 1 else f"{step.describe()}: {_part(spec, builder)}"
            function = _function(step, image, number)
            layers.append(_plan_layer(title, step, spec, layers[-1] if layers else None, function))
    return Plan(image=image, builder=builder, layers=tuple(layers))


def _part(spec: LayerSpec, builder: Builder) -> str:
    """Return what one of several layers of a step does."""
    if spec.base is not None:
        return f"base image {spec.base}"
    if spec.dockerfile is not None:
        return "its other lines"
    lines = [line for item in spec.instructions for line in item.lines(builder)]
    commands = [number for number, line in enumerate(lines) if line.startswith(("RUN ", "COPY "))]
    at = max(commands, default=0)
    while lines[at].rstrip().endswith("\\"):
        at += 1
    text = lines[at].strip().removeprefix("RUN ")
    return text if len(text) <= PART_LENGTH else f"{text[: PART_LENGTH - 1]}…"


def _function(step: Step, image: Image, number: int) -> PlannedFunction | None:
    """Return the function that the step of that number calls. It runs in the image of the steps before."""
    call = step.called()
    if call is None:
        return None
    from pytest_imagebuild.plan.functions import plan_function  # noqa: PLC0415 - few images call one

    return plan_function(call, definition_of(image.steps[:number]), step.where)


def _plan_layer(
    title: str, step: Step, spec: LayerSpec, below: PlannedLayer | None, function: PlannedFunction | None
) -> PlannedLayer:
    read = [_read(item, step.where) for item in spec.instructions]
    instructions = tuple(item for item, _ in read)
    tools = tuple(entry for _, entries in read for entry in entries)
    _check_volumes(step)
    gpu = step.gpu if spec.base is None else ()
    files = tuple(entry for item in instructions for entry in _files(item))
    said: dict[str, object] = {
        "base": spec.base,
        "instructions": tuple(item.portable() for item in instructions),
        "environment": step.build_env,
        **_if_any(secrets=step.secrets, volumes=step.volumes, gpu=gpu),
    }
    dockerfile = None
    if spec.dockerfile is not None:
        from pytest_imagebuild.plan.dockerfiles import plan_dockerfile  # noqa: PLC0415 - few images have one

        dockerfile, files = plan_dockerfile(spec.dockerfile, step)
        said["dockerfile"] = dockerfile.identity
    identity = digest(said)
    asked = {"below": below.definition if below else "", "layer": identity}
    if tools:
        asked["requirements"] = contents_digest(tools)
    return PlannedLayer(
        title=title,
        where=step.where,
        force=step.force,
        base=spec.base,
        root=_root(spec, below, dockerfile),
        instructions=instructions,
        environment=step.build_env,
        files=files,
        tools=tools,
        contents=contents_digest((*files, *tools)),
        step=identity if function is None else digest({"call": identity, "code": function.code}),
        definition=digest(asked),
        volumes=step.volumes,
        secrets=step.secrets,
        login=spec.login,
        function=function,
        gpu=gpu,
        dockerfile=dockerfile,
    )


def _if_any(**parts: tuple[object, ...]) -> dict[str, object]:
    """Return those that hold something: a step without them has the key of before there were any."""
    return {name: part for name, part in parts.items() if part}


def _check_volumes(step: Step) -> None:
    if not step.volumes:
        return
    from pytest_imagebuild.image.volume import mounted_twice  # noqa: PLC0415 - few steps have any

    if (problem := mounted_twice(step.volumes)) is not None:
        raise DefinitionError(f"{step.describe()}: {problem}", where=step.where)


def _root(spec: LayerSpec, below: PlannedLayer | None, dockerfile: PlannedDockerfile | None) -> str:
    """Return the reference that the lockfile notes for the layers of an image."""
    if spec.base is not None:
        return spec.base
    if below is not None:
        return below.root
    return dockerfile.references[0] if dockerfile and dockerfile.references else ""


def base_layer(reference: str) -> PlannedLayer:
    """Return the base layer of a reference that a Dockerfile takes: that of `from_registry`, with the same key."""
    from pytest_imagebuild.image.steps.registry import FromRegistryStep  # noqa: PLC0415 - few Dockerfiles are built

    step = FromRegistryStep(tag=reference)
    return _plan_layer(step.describe(), step, LayerSpec(base=reference), None, None)


def _loaded(step: Step) -> Step:
    """Return the step with what its Dockerfile holds; any other step as it is. Raises LocalFileError."""
    if not step.is_file:
        return step
    from pytest_imagebuild.plan.dockerfiles import loaded  # noqa: PLC0415 - few images are one

    return loaded(step)


def _read(instruction: Instruction, where: SourceLocation | None) -> tuple[Instruction, tuple[FileEntry, ...]]:
    if not instruction.names_files:
        return instruction, ()
    from pytest_imagebuild.plan.projects import read_instruction  # noqa: PLC0415 - most name none

    return read_instruction(instruction, where)


def _files(instruction: Instruction) -> tuple[FileEntry, ...]:
    source = instruction.copied()
    if source is None:
        return ()
    from pytest_imagebuild.plan.context import read_source  # noqa: PLC0415 - most copy none

    return read_source(source)


def _is_open(instruction: Instruction) -> TypeGuard[Install]:
    return instruction.is_open
