"""Environment variables that stay in an image."""
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

__all__ = ["EnvStep", "SetEnv"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SetEnv(BaseInstruction):
    """Set environment variables that stay in the image: pairs of name and literal value."""

    variables: tuple[tuple[str, str], ...]

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `ENV` for each variable, its value quoted."""
        return tuple(f"ENV {name}={shlex.quote(value)}" for name, value in self.variables)


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvStep(Step):
    """`Image.env`: variables that stay in the image, in the order given."""

    variables: tuple[tuple[str, str], ...]

    def describe(self) -> str:
        pairs = ", ".join(f"{quoted(name)}: {quoted(value)}" for name, value in self.variables)
        return call_text("env", ["{" + pairs + "}"])

    def instructions(self) -> tuple[Instruction, ...]:
        return (SetEnv(variables=self.variables),)
