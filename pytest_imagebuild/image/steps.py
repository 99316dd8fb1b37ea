"""One value per call in the chain, and the layers that it asks for."""
# ruff: noqa: D102 - `Step` says what the methods of all steps give

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from pytest_imagebuild.errors import DefinitionError, SourceLocation
from pytest_imagebuild.image.builder import Builder
from pytest_imagebuild.image.instructions import (
    AptInstall,
    CopyLocal,
    Instruction,
    PipInstall,
    Run,
    SetCommand,
    SetEnv,
    SetWorkdir,
    UvPipInstall,
)
from pytest_imagebuild.image.sources import LocalSource
from pytest_imagebuild.image.wording import call_text, quoted, without_credentials

__all__ = [
    "AptInstallStep",
    "CopyLocalStep",
    "DebianSlimStep",
    "EnvStep",
    "FromRegistryStep",
    "LayerSpec",
    "PipInstallStep",
    "RunCommandsStep",
    "Step",
    "UvPipInstallStep",
    "WorkdirStep",
]

# The reference's rule: 3.N or 3.N.N, each N of one or two digits, then an optional "rcN" and an optional "t".
_PYTHON_VERSION = re.compile(r"(3\.[0-9]{1,2})(?:\.[0-9]{1,2})?(?:rc[0-9]+)?(t?)")
_NOT_INTERACTIVE = "echo 'debconf debconf/frontend select Noninteractive' | debconf-set-selections"


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerSpec:
    """One layer of a step. `base` is the registry reference of a root layer; None means the layer before it."""

    base: str | None = None
    instructions: tuple[Instruction, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Step(ABC):
    """One call in the chain.

    `force` rebuilds its layers in each run. `build_env` are pairs of name and value, sorted by name, that its
    commands see while they run and that do not stay in the image. `where` is the line of the call.
    """

    force: bool = False
    build_env: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # may hold what nobody should read
    where: SourceLocation | None = field(default=None, compare=False, metadata={"presentation": True})

    @abstractmethod
    def describe(self) -> str:
        """Give the call in the user's own words, on one short line."""

    def instructions(self) -> tuple[Instruction, ...]:
        """Give what the one layer of a step does; a step with other layers has its own `layers`."""
        return ()

    def layers(self, builder: Builder, local_python: str) -> tuple[LayerSpec, ...]:  # noqa: ARG002 - for those with own
        """Give the layers, lowest first. `local_python` ("3.12") is used where the call names no Python.

        Raises `DefinitionError` at the user's line for what this builder version does not offer.
        """
        return (LayerSpec(instructions=self.instructions()),)

    def lines(self, builder: Builder, local_python: str) -> tuple[str, ...]:
        """Give the Dockerfile lines of the whole step; the first is `FROM base` or the `FROM` of a root layer."""
        specs = self.layers(builder, local_python)
        body = (line for spec in specs for instruction in spec.instructions for line in instruction.lines(builder))
        return (f"FROM {specs[0].base or 'base'}", *body)


@dataclass(frozen=True, kw_only=True, slots=True)
class DebianSlimStep(Step):
    """`Image.debian_slim`. `python_version` None means the series of the Python that runs pytest."""

    python_version: str | None = None

    def describe(self) -> str:
        return call_text("debian_slim", [quoted(self.python_version)] if self.python_version is not None else [])

    def layers(self, builder: Builder, local_python: str) -> tuple[LayerSpec, ...]:
        version = local_python if self.python_version is None else self.python_version
        self._check(version, builder)
        settings: tuple[Instruction, ...] = (Run(command=_NOT_INTERACTIVE),)
        if builder.command:
            settings += (SetCommand(argv=builder.command),)
        tools = PipInstall(packages=builder.pip_tools, upgrade=True, executable="pip")
        return (
            LayerSpec(base=f"python:{version}-slim-{builder.debian_codename}"),
            LayerSpec(instructions=(AptInstall(packages=builder.apt_tools),)),
            LayerSpec(instructions=(tools,)),
            LayerSpec(instructions=settings),
        )

    def _check(self, version: str, builder: Builder) -> None:
        match = _PYTHON_VERSION.fullmatch(version)
        offered = list(builder.python_series)
        advice = f'Name one of them: Image.debian_slim("{offered[-1]}").'
        if match is None:
            message = (
                f"Invalid Python version: {version!r}. Write a series ({offered[-1]!r}) or a full version "
                f"({offered[-1] + '.1'!r})."
            )
            raise DefinitionError(message, where=self.where)
        series, free_threaded = match.groups()
        if free_threaded:
            message = (
                "Free threaded Python is not supported with Image.debian_slim, "
                f"but the version asked for is {version!r}. {advice}"
            )
            raise DefinitionError(message, where=self.where)
        if series not in offered:
            origin = "" if self.python_version is not None else " (that of the Python which runs pytest)"
            message = (
                f"Unsupported Python version: {version!r}{origin}. When using the {builder.version!r} Image builder, "
                f"Image.debian_slim supports the following series: {offered}. {advice}"
            )
            raise DefinitionError(message, where=self.where)


@dataclass(frozen=True, kw_only=True, slots=True)
class FromRegistryStep(Step):
    """`Image.from_registry`: a reference as the user wrote it."""

    tag: str

    def describe(self) -> str:
        return call_text("from_registry", [quoted(self.tag)])

    def layers(self, builder: Builder, local_python: str) -> tuple[LayerSpec, ...]:  # noqa: ARG002 - a registry image is what it is
        return (LayerSpec(base=self.tag),)


@dataclass(frozen=True, kw_only=True, slots=True)
class AptInstallStep(Step):
    """`Image.apt_install`: Debian packages in the order given."""

    packages: tuple[str, ...]

    def describe(self) -> str:
        return call_text("apt_install", list(map(quoted, self.packages)))

    def instructions(self) -> tuple[Instruction, ...]:
        return (AptInstall(packages=self.packages),)


@dataclass(frozen=True, kw_only=True, slots=True)
class PipInstallStep(Step):
    """`Image.pip_install`: packages in the order given; the layer has them sorted."""

    packages: tuple[str, ...]
    find_links: str | None = None
    index_url: str | None = None
    extra_index_url: str | None = None
    pre: bool = False
    extra_options: str = ""

    def describe(self) -> str:
        # Index addresses stay out: they may hold a password.
        packages = (quoted(without_credentials(package)) for package in self.packages)
        return call_text("pip_install", [*packages, *(["pre=True"] if self.pre else [])])

    def instructions(self) -> tuple[Instruction, ...]:
        install = PipInstall(
            packages=tuple(sorted(self.packages)),
            find_links=self.find_links,
            index_url=self.index_url,
            extra_index_url=self.extra_index_url,
            pre=self.pre,
            extra_options=self.extra_options,
        )
        return (install,)


@dataclass(frozen=True, kw_only=True, slots=True)
class UvPipInstallStep(Step):
    """`Image.uv_pip_install`: packages in the order given, requirement files by their local paths."""

    packages: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    find_links: str | None = None
    index_url: str | None = None
    extra_index_url: str | None = None
    pre: bool = False
    extra_options: str = ""
    uv_version: str | None = None

    def describe(self) -> str:
        # Index addresses stay out: they may hold a password.
        arguments = [quoted(without_credentials(package)) for package in self.packages]
        if self.requirements:
            arguments.append(f"requirements=[{', '.join(map(quoted, self.requirements))}]")
        if self.pre:
            arguments.append("pre=True")
        return call_text("uv_pip_install", arguments)

    def instructions(self) -> tuple[Instruction, ...]:
        install = UvPipInstall(
            packages=tuple(sorted(self.packages)),
            requirements=self.requirements,
            find_links=self.find_links,
            index_url=self.index_url,
            extra_index_url=self.extra_index_url,
            pre=self.pre,
            extra_options=self.extra_options,
            uv_version=self.uv_version,
        )
        return (install,)


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvStep(Step):
    """`Image.env`: variables that stay in the image, in the order given."""

    variables: tuple[tuple[str, str], ...]

    def describe(self) -> str:
        pairs = ", ".join(f"{quoted(name)}: {quoted(value)}" for name, value in self.variables)
        return call_text("env", ["{" + pairs + "}"])

    def instructions(self) -> tuple[Instruction, ...]:
        return (SetEnv(variables=self.variables),)


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkdirStep(Step):
    """`Image.workdir`."""

    path: str

    def describe(self) -> str:
        return call_text("workdir", [quoted(self.path)])

    def instructions(self) -> tuple[Instruction, ...]:
        return (SetWorkdir(path=self.path),)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCommandsStep(Step):
    """`Image.run_commands`: shell commands that make one layer."""

    commands: tuple[str, ...]

    def describe(self) -> str:
        return call_text("run_commands", list(map(quoted, self.commands)))

    def instructions(self) -> tuple[Instruction, ...]:
        return tuple(Run(command=command) for command in self.commands)


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyLocalStep(Step):
    """`Image.add_local_*` with `copy=True`."""

    source: LocalSource

    def describe(self) -> str:
        return self.source.describe(copy=True)

    def instructions(self) -> tuple[Instruction, ...]:
        return (CopyLocal(source=self.source),)
