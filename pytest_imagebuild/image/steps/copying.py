"""Local files that make a layer."""
# ruff: noqa: D102 - `Step` and `BaseInstruction` say what the methods of all give

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_imagebuild.image.step import BaseInstruction, Step

if TYPE_CHECKING:
    from pytest_imagebuild.image.builder import Builder
    from pytest_imagebuild.image.instructions import Instruction
    from pytest_imagebuild.image.sources import LocalSource

__all__ = ["CopyLocal", "CopyLocalStep"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyLocal(BaseInstruction):
    """Copy local files to their full remote paths."""

    source: LocalSource

    def copied(self) -> LocalSource:
        return self.source

    def portable(self) -> object:
        return {"copy": self.source.target()}

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `COPY` of a context that holds the files at their remote paths."""
        return ("COPY . /",)


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyLocalStep(Step):
    """`Image.add_local_*` with `copy=True`."""

    source: LocalSource

    def describe(self) -> str:
        return self.source.describe(copy=True)

    def instructions(self) -> tuple[Instruction, ...]:
        return (CopyLocal(source=self.source),)
