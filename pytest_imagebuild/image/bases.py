"""The calls that a chain begins with."""
# ruff: noqa: D102 - `Step` says what the methods of all steps give

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pytest_imagebuild.errors import DefinitionError, SourceLocation
from pytest_imagebuild.image.builder import Builder
from pytest_imagebuild.image.dockerfile_lines import DockerfileLines
from pytest_imagebuild.image.instructions import (
    AddPython,
    AptInstall,
    Instruction,
    MicromambaInstall,
    PipInstall,
    Run,
    SetCommand,
    SetEnv,
    SetShell,
)
from pytest_imagebuild.image.secret import RegistrySecret
from pytest_imagebuild.image.step import LayerSpec, Step
from pytest_imagebuild.image.wording import call_text, quoted

__all__ = [
    "SCRATCH",
    "DebianSlimStep",
    "FromNameStep",
    "FromRegistryStep",
    "FromScratchStep",
    "MicromambaStep",
    "published_name",
    "standalone_python",
]

SCRATCH = "scratch"
"""The name of a base image that holds nothing; no registry has it."""

# No reference of a registry has a space in it.
_PUBLISHED = "published "

# The reference's rule: 3.N or 3.N.N, each N of one or two digits, then an optional "rcN" and an optional "t".
_PYTHON_VERSION = re.compile(r"(3\.[0-9]{1,2})(?:\.[0-9]{1,2})?(?:rc[0-9]+)?(t?)")
_MICROMAMBA_SHELL = ("/usr/local/bin/_dockerfile_shell.sh",)
_TERMINFO = "/etc/terminfo:/lib/terminfo:/usr/share/terminfo:/usr/lib/terminfo"
_NOT_INTERACTIVE = "echo 'debconf debconf/frontend select Noninteractive' | debconf-set-selections"


@dataclass(frozen=True, kw_only=True, slots=True)
class DebianSlimStep(Step):
    """`Image.debian_slim`. `python_version` None means the series of the Python that runs pytest."""

    python_version: str | None = None

    def describe(self) -> str:
        return call_text("debian_slim", [quoted(self.python_version)] if self.python_version is not None else [])

    def layers(self, builder: Builder, local_python: str) -> tuple[LayerSpec, ...]:
        version = _offered_python(self, self.python_version, "debian_slim", builder, local_python)
        settings: tuple[Instruction, ...] = (Run(command=_NOT_INTERACTIVE),)
        if builder.command:
            settings += (SetCommand(argv=builder.command),)
        version = builder.python_versions.get(version, version)
        tools = PipInstall(packages=builder.pip_tools, upgrade=True, executable="pip")
        return (
            LayerSpec(base=f"python:{version}-slim-{builder.debian_codename}"),
            LayerSpec(instructions=(AptInstall(packages=builder.apt_tools),)),
            LayerSpec(instructions=(tools,)),
            LayerSpec(instructions=settings),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MicromambaStep(Step):
    """`Image.micromamba`. `python_version` None means the series of the Python that runs pytest."""

    python_version: str | None = None

    def describe(self) -> str:
        return call_text("micromamba", [quoted(self.python_version)] if self.python_version is not None else [])

    def layers(self, builder: Builder, local_python: str) -> tuple[LayerSpec, ...]:
        version = _offered_python(self, self.python_version, "micromamba", builder, local_python)
        if builder.micromamba_tag is None:
            message = f"micromamba: the {builder.version!r} Image builder has no image of micromamba."
            raise DefinitionError(message, where=self.where)
        # The shell comes in a layer of its own, because it runs the commands of the layers above alone.
        activation = (SetShell(argv=_MICROMAMBA_SHELL), SetEnv(variables=(("MAMBA_DOCKERFILE_ACTIVATE", "1"),)))
        python = MicromambaInstall(packages=(f"python={version}", "pip"), channels=("conda-forge",), root=True)
        layers = (
            LayerSpec(base=f"mambaorg/micromamba:{builder.micromamba_tag}"),
            LayerSpec(instructions=activation),
            LayerSpec(instructions=(python,)),
        )
        return (*layers, LayerSpec(instructions=(SetCommand(argv=builder.command),))) if builder.command else layers


def _offered_python(step: Step, asked: str | None, factory: str, builder: Builder, local_python: str) -> str:
    """Give the version that is asked for. Raises `DefinitionError` for what the builder version does not offer."""
    version = local_python if asked is None else asked
    match = _PYTHON_VERSION.fullmatch(version)
    offered = list(builder.python_series)
    advice = f'Name one of them: Image.{factory}("{offered[-1]}").'
    if match is None:
        message = (
            f"Invalid Python version: {version!r}. Write a series ({offered[-1]!r}) or a full version "
            f"({offered[-1] + '.1'!r})."
        )
        raise DefinitionError(message, where=step.where)
    series, free_threaded = match.groups()
    if free_threaded:
        message = (
            f"Free threaded Python is not supported with Image.{factory}, "
            f"but the version asked for is {version!r}. {advice}"
        )
        raise DefinitionError(message, where=step.where)
    if series not in offered:
        origin = "" if asked is not None else " (that of the Python which runs pytest)"
        message = (
            f"Unsupported Python version: {version!r}{origin}. When using the {builder.version!r} Image builder, "
            f"Image.{factory} supports the following series: {offered}. {advice}"
        )
        raise DefinitionError(message, where=step.where)
    return version


@dataclass(frozen=True, kw_only=True, slots=True)
class FromScratchStep(Step):
    """`Image.from_scratch`: nothing at all."""

    def describe(self) -> str:
        return call_text("from_scratch", [])

    def layers(self, builder: Builder, local_python: str) -> tuple[LayerSpec, ...]:  # noqa: ARG002 - nothing is nothing
        return (LayerSpec(base=SCRATCH),)


@dataclass(frozen=True, kw_only=True, slots=True)
class FromNameStep(Step):
    """`Image.from_name`: a whole name, with its tag."""

    name: str

    def describe(self) -> str:
        return call_text("from_name", [quoted(self.name.removesuffix(":latest"))])

    def layers(self, builder: Builder, local_python: str) -> tuple[LayerSpec, ...]:  # noqa: ARG002 - it is built
        return (LayerSpec(base=f"{_PUBLISHED}{self.name}"),)


def published_name(base: str | None) -> str | None:
    """Give the name under which a base was published; None for a base that is something else."""
    return base.removeprefix(_PUBLISHED) if base is not None and base.startswith(_PUBLISHED) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class FromRegistryStep(Step):
    """`Image.from_registry` and the two methods for one service each: a reference, and Dockerfile lines on top of it.

    `login` enters no key: the digest says what the image is, whoever may have it.
    """

    tag: str
    setup: tuple[str, ...] = ()
    add_python: str | None = None
    method: str = "from_registry"
    login: RegistrySecret | None = field(default=None, metadata={"presentation": True})

    def describe(self) -> str:
        python = [f"add_python={quoted(self.add_python)}"] if self.add_python is not None else []
        return call_text(self.method, [quoted(self.tag), *python])

    def layers(self, builder: Builder, local_python: str) -> tuple[LayerSpec, ...]:  # noqa: ARG002 - none is left open
        base = LayerSpec(base=self.tag, login=self.login)
        layers: tuple[LayerSpec, ...] = (base,)
        if self.add_python is not None:
            layers += (LayerSpec(instructions=standalone_python(self.add_python, builder, self.where)),)
        if self.setup:
            layers += (LayerSpec(dockerfile=DockerfileLines(text="\n".join(self.setup), on_base=True)),)
        return layers


def standalone_python(asked: str, builder: Builder, where: SourceLocation | None) -> tuple[Instruction, ...]:
    """Give what adds a Python to an image. Raises `DefinitionError` for what the builder version does not offer."""
    offered = builder.standalone_python
    if asked in offered:
        return (AddPython(version=offered[asked]), SetEnv(variables=(("TERMINFO_DIRS", _TERMINFO),)))
    match = _PYTHON_VERSION.fullmatch(asked)
    if match is None:
        message = f"Invalid Python version: {asked!r}. Write a series, as add_python={list(offered)[-1]!r}."
    elif asked not in (match[1], match[1] + match[2]):
        series = match[1] + match[2]
        message = (
            "The Python version must be specified as 'major.minor' for this interface; micro-level specification "
            f"({asked!r}) is not valid. Write add_python={series!r}."
        )
    else:
        message = (
            f"Unsupported Python version: {asked!r}. When using the {builder.version!r} Image builder, add_python "
            f"supports the following series: {list(offered)}."
        )
    raise DefinitionError(message, where=where)
