"""A call in the chain, and the layers that it asks for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_imagebuild.errors import SourceLocation
    from pytest_imagebuild.image.builder import Builder
    from pytest_imagebuild.image.dockerfile_lines import DockerfileLines
    from pytest_imagebuild.image.function_call import CallFunction
    from pytest_imagebuild.image.gpu import GpuRequest
    from pytest_imagebuild.image.instructions import Instruction
    from pytest_imagebuild.image.secret import RegistrySecret, Secret
    from pytest_imagebuild.image.sources import LocalSource
    from pytest_imagebuild.image.volume import Mounted

__all__ = ["BaseInstruction", "LayerSpec", "Step"]


class BaseInstruction:
    """What a plan asks of an instruction, of whatever kind: see `instructions.Instruction`."""

    __slots__ = ()

    @property
    def is_open(self) -> bool:
        """Say whether it leaves open which packages it installs."""
        return False

    @property
    def names_files(self) -> bool:
        """Say whether it has to be read with local files that it names, or that are made for it."""
        return False

    def copied(self) -> LocalSource | None:
        """Give the local files that become its layer."""
        return None

    def portable(self) -> object:
        """Give what of it enters keys: never where its local files lie on this machine."""
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerSpec:
    """One layer of a step.

    `base` is the registry reference of a root layer; None means the layer before it. `login` is what its registry asks
    for. A layer of Dockerfile lines has `dockerfile`, and no instructions.
    """

    base: str | None = None
    instructions: tuple[Instruction, ...] = ()
    login: RegistrySecret | None = None
    dockerfile: DockerfileLines | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Step(ABC):
    """One call in the chain.

    `force` rebuilds its layers in each run. `build_env` are pairs of name and value, sorted by name, that its
    commands see while they run and that do not stay in the image; `secrets` give more of them, whose values nothing
    shows. `volumes` are mounted while they run, and what is in them is no part of the image. `gpu` is what they have
    while they run, the best first of what would do. `where` is the line of the call.
    """

    force: bool = False
    build_env: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # may hold what nobody should read
    volumes: Mounted = ()
    secrets: tuple[Secret, ...] = ()
    gpu: tuple[GpuRequest, ...] = ()
    where: SourceLocation | None = field(default=None, compare=False, metadata={"presentation": True})

    @property
    def is_file(self) -> bool:
        """Say whether it has to be read from a Dockerfile."""
        return False

    @property
    def base_name(self) -> str:
        """A short name of the image that begins with this call."""
        return self.describe()

    @abstractmethod
    def describe(self) -> str:
        """Give the call in the user's own words, on one short line."""

    def instructions(self) -> tuple[Instruction, ...]:
        """Give what the one layer of a step does; a step with other layers has its own `layers`."""
        return ()

    def called(self) -> CallFunction | None:
        """Give the function that it calls."""
        return None

    def layers(self, builder: Builder, local_python: str) -> tuple[LayerSpec, ...]:  # noqa: ARG002 - for those with own
        """Give the layers, lowest first. `local_python` ("3.12") is used where the call names no Python.

        Raises `DefinitionError` at the user's line for what this builder version does not offer.
        """
        return (LayerSpec(instructions=self.instructions()),)

    def lines(self, builder: Builder, local_python: str) -> tuple[str, ...]:
        """Give the Dockerfile lines of the whole step; the first is `FROM base` or the `FROM` of a root layer."""
        specs = self.layers(builder, local_python)
        body = (
            line
            for spec in specs
            for item in (*spec.instructions, *([spec.dockerfile] if spec.dockerfile else ()))
            for line in item.lines(builder)
        )
        return (f"FROM {specs[0].base or 'base'}", *body)
