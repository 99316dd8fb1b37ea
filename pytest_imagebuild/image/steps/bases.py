"""Bases that no registry has: nothing at all, and what was published on this machine."""
# ruff: noqa: D102 - `Step` and `BaseInstruction` say what the methods of all give

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_imagebuild.image.base_names import SCRATCH, as_published
from pytest_imagebuild.image.step import LayerSpec, Step
from pytest_imagebuild.image.wording import call_text, quoted

if TYPE_CHECKING:
    from pytest_imagebuild.image.builder import Builder

__all__ = ["FromNameStep", "FromScratchStep"]


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
        return (LayerSpec(base=as_published(self.name)),)
