"""The call that runs a Python function."""
# ruff: noqa: D102 - `Step` says what the methods of all steps give

from __future__ import annotations

from dataclasses import dataclass

from pytest_imagebuild.image.function_call import CallFunction
from pytest_imagebuild.image.instructions import Instruction
from pytest_imagebuild.image.step import Step
from pytest_imagebuild.image.wording import call_text

__all__ = ["RunFunctionStep"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFunctionStep(Step):
    """`Image.run_function`."""

    call: CallFunction

    def called(self) -> CallFunction:
        return self.call

    def describe(self) -> str:
        return call_text("run_function", [self.call.name])

    def instructions(self) -> tuple[Instruction, ...]:
        return (self.call,)
