"""Shell commands of a chain."""
# ruff: noqa: D102 - `Step` and `BaseInstruction` say what the methods of all give

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_imagebuild.image.step import BaseInstruction, Step
from pytest_imagebuild.image.wording import call_text, quoted

if TYPE_CHECKING:
    from pytest_imagebuild.image.builder import Builder
    from pytest_imagebuild.image.instructions import Instruction

__all__ = ["Run", "RunCommandsStep"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run(BaseInstruction):
    """Run a shell command, verbatim."""

    command: str

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `RUN`."""
        return (f"RUN {self.command}",)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCommandsStep(Step):
    """`Image.run_commands`: shell commands that make one layer."""

    commands: tuple[str, ...]

    def describe(self) -> str:
        return call_text("run_commands", list(map(quoted, self.commands)))

    def instructions(self) -> tuple[Instruction, ...]:
        return tuple(Run(command=command) for command in self.commands)
