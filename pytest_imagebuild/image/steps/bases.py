"""Bases that no registry has: nothing at all, and what was published on this machine."""
# ruff: noqa: D102 - `Step` and `BaseInstruction` say what the methods of all give

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_imagebuild.image.step import LayerSpec, Step
from pytest_imagebuild.image.wording import call_text, quoted

if TYPE_CHECKING:
    from pytest_imagebuild.image.builder import Builder

__all__ = ["SCRATCH", "FromNameStep", "FromScratchStep", "published_name"]

SCRATCH = "scratch"
"""The name of a base image that holds nothing; no registry has it."""

# No reference of a registry has a space in it.
_PUBLISHED = "published "


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
