"""Debian packages."""
# ruff: noqa: D102 - `Step` and `BaseInstruction` say what the methods of all give

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_imagebuild.image.step import BaseInstruction, Step
from pytest_imagebuild.image.wording import call_text, quoted

if TYPE_CHECKING:
    from pytest_imagebuild.image.builder import Builder
    from pytest_imagebuild.image.instructions import Instruction

__all__ = ["AptInstall", "AptInstallStep"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AptInstall(BaseInstruction):
    """Install Debian packages, in the order given."""

    packages: tuple[str, ...]

    @property
    def is_open(self) -> bool:
        return True

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give a `RUN` that updates the index and one that installs."""
        return ("RUN apt-get update", f"RUN apt-get install -y {shlex.join(self.packages)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class AptInstallStep(Step):
    """`Image.apt_install`: Debian packages in the order given."""

    packages: tuple[str, ...]

    def describe(self) -> str:
        return call_text("apt_install", list(map(quoted, self.packages)))

    def instructions(self) -> tuple[Instruction, ...]:
        return (AptInstall(packages=self.packages),)
