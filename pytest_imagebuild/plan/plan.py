"""A plan: the layers that an image is made of, in order, each with what its key is made of.

`plan_image` reads local files and validates what can be known before a build. A layer's key also needs the lockfile's
pins and its parent's generation, so keys come from `PlannedLayer.inputs`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_imagebuild.engines.protocol import BasePin, FileEntry
from pytest_imagebuild.errors import LocalFileError, SourceLocation
from pytest_imagebuild.image.builder import Builder
from pytest_imagebuild.image.canonical import digest
from pytest_imagebuild.image.chain import Image
from pytest_imagebuild.image.instructions import (
    AptInstall,
    CopyLocal,
    Install,
    Instruction,
    PipInstall,
    UvPipInstall,
)
from pytest_imagebuild.image.sources import LocalDir, LocalFile, LocalPythonSource, LocalSource
from pytest_imagebuild.image.steps import LayerSpec, Step
from pytest_imagebuild.lockfile import Pin
from pytest_imagebuild.plan.context import read_file, read_source
from pytest_imagebuild.plan.keys import KeyInputs, contents_digest, pins_digest

PART_LENGTH = 60

__all__ = ["Plan", "PlannedLayer", "local_python", "plan_image"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedLayer:
    """One layer to be.

    `title` is the step in the user's own words. `base` is the reference of a base layer, else None. `files` enter the
    layer, `tools` are there while it is made. `definition` is the digest of what the chain says up to this layer, the
    same on every machine: pins stay outside, and so do local contents, but for requirement files, which say what is
    asked for. It names the lockfile's record and the build lock.
    """

    title: str
    where: SourceLocation | None
    force: bool
    base: str | None
    root: str
    instructions: tuple[Instruction, ...]
    environment: tuple[tuple[str, str], ...]
    files: tuple[FileEntry, ...]
    tools: tuple[FileEntry, ...]
    step: str
    definition: str

    @property
    def install(self) -> Install | None:
        """The install instruction, which the lockfile pins; None where a layer has none."""
        found = (item for item in self.instructions if isinstance(item, (AptInstall, PipInstall, UvPipInstall)))
        return next(found, None)

    def inputs(
        self, *, builder: str, platform: str, parent: str, generation: str, pins: Iterable[Pin] | BasePin | None
    ) -> KeyInputs:
        """Return what this layer's key is made of, on a given parent and with given pins."""
        return KeyInputs(
            builder=builder,
            platform=platform,
            parent=parent,
            generation=generation,
            step=self.step,
            contents=contents_digest((*self.files, *self.tools)),
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
    for step in image.steps:
        specs = step.layers(builder, local_python())
        for spec in specs:
            title = step.describe() if len(specs) == 1 else f"{step.describe()}: {_part(spec, builder)}"
            layers.append(_plan_layer(title, step, spec, layers[-1] if layers else None))
    return Plan(image=image, builder=builder, layers=tuple(layers))


def _part(spec: LayerSpec, builder: Builder) -> str:
    """Return what one of several layers of a step does."""
    if spec.base is not None:
        return f"base image {spec.base}"
    lines = [line for item in spec.instructions for line in item.lines(builder) if line.startswith("RUN ")]
    text = lines[-1].removeprefix("RUN ")
    return text if len(text) <= PART_LENGTH else f"{text[: PART_LENGTH - 1]}…"


def _plan_layer(title: str, step: Step, spec: LayerSpec, below: PlannedLayer | None) -> PlannedLayer:
    identity = digest(
        {
            "base": spec.base,
            "instructions": tuple(_portable(item) for item in spec.instructions),
            "environment": step.build_env,
        }
    )
    tools = tuple(entry for item in spec.instructions for entry in _tools(item, step.where))
    asked = {"below": below.definition if below else "", "layer": identity}
    if tools:
        asked["requirements"] = contents_digest(tools)
    return PlannedLayer(
        title=title,
        where=step.where,
        force=step.force,
        base=spec.base,
        root=spec.base if spec.base is not None else below.root if below else "",
        instructions=spec.instructions,
        environment=step.build_env,
        files=tuple(entry for item in spec.instructions for entry in _files(item)),
        tools=tools,
        step=identity,
        definition=digest(asked),
    )


def _files(instruction: Instruction) -> tuple[FileEntry, ...]:
    return read_source(instruction.source) if isinstance(instruction, CopyLocal) else ()


def _tools(instruction: Instruction, where: SourceLocation | None) -> tuple[FileEntry, ...]:
    if not isinstance(instruction, UvPipInstall):
        return ()
    paths = (Path(path).expanduser().absolute() for path in instruction.requirements)
    targets = instruction.remote_requirements()
    return tuple(_requirements(path, target, where) for path, target in zip(paths, targets, strict=True))


def _requirements(path: Path, target: str, where: SourceLocation | None) -> FileEntry:
    if not path.is_file():
        raise LocalFileError(f"uv_pip_install: requirements file {path} does not exist.", where=where)
    # Its mode means nothing and differs with the umask of a checkout, so it must not enter the key.
    return replace(read_file(path, target), mode=0o644)


def _portable(instruction: Instruction) -> object:
    """Return what of an instruction enters keys: never where its local files lie on this machine."""
    match instruction:
        case CopyLocal():
            return {"copy": _target(instruction.source)}
        case UvPipInstall():
            return replace(instruction, requirements=instruction.remote_requirements())
        case _:
            return instruction


def _target(source: LocalSource) -> tuple[str, ...]:
    match source:
        case LocalFile() | LocalDir():
            return (source.remote_path,)
        case LocalPythonSource():
            return source.modules
