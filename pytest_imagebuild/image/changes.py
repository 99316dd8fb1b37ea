"""The calls that run commands, copy files and change the configuration."""
# ruff: noqa: D102 - `Step` says what the methods of all steps give

from __future__ import annotations

from dataclasses import dataclass

from pytest_imagebuild.image.instructions import (
    CopyLocal,
    Instruction,
    Run,
    SetCommand,
    SetEntrypoint,
    SetEnv,
    SetShell,
    SetWorkdir,
)
from pytest_imagebuild.image.sources import LocalSource
from pytest_imagebuild.image.step import Step
from pytest_imagebuild.image.wording import call_text, listed, quoted

__all__ = ["CmdStep", "CopyLocalStep", "EntrypointStep", "EnvStep", "RunCommandsStep", "ShellStep", "WorkdirStep"]


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
class CmdStep(Step):
    """`Image.cmd`."""

    argv: tuple[str, ...]

    def describe(self) -> str:
        return call_text("cmd", [listed(self.argv)])

    def instructions(self) -> tuple[Instruction, ...]:
        return (SetCommand(argv=self.argv),)


@dataclass(frozen=True, kw_only=True, slots=True)
class EntrypointStep(Step):
    """`Image.entrypoint`."""

    argv: tuple[str, ...]

    def describe(self) -> str:
        return call_text("entrypoint", [listed(self.argv)])

    def instructions(self) -> tuple[Instruction, ...]:
        return (SetEntrypoint(argv=self.argv),)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShellStep(Step):
    """`Image.shell`."""

    argv: tuple[str, ...]

    def describe(self) -> str:
        return call_text("shell", [listed(self.argv)])

    def instructions(self) -> tuple[Instruction, ...]:
        return (SetShell(argv=self.argv),)


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
