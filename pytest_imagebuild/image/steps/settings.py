"""What containers and later layers begin with."""
# ruff: noqa: D102 - `Step` and `BaseInstruction` say what the methods of all give

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_imagebuild.image.step import BaseInstruction, Step
from pytest_imagebuild.image.wording import call_text, listed, quoted

if TYPE_CHECKING:
    from pytest_imagebuild.image.builder import Builder
    from pytest_imagebuild.image.instructions import Instruction

__all__ = [
    "CmdStep",
    "EntrypointStep",
    "PrependPath",
    "SetCommand",
    "SetEntrypoint",
    "SetShell",
    "SetWorkdir",
    "ShellStep",
    "WorkdirStep",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class SetWorkdir(BaseInstruction):
    """Set the working directory of later steps and of containers; a relative one is relative to the one before."""

    path: str

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `WORKDIR`, quoted."""
        return (f"WORKDIR {shlex.quote(self.path)}",)


@dataclass(frozen=True, kw_only=True, slots=True)
class SetCommand(BaseInstruction):
    """Set what a container runs when it is told nothing else."""

    argv: tuple[str, ...]

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `CMD` in its JSON form."""
        return (f"CMD {json.dumps(list(self.argv), ensure_ascii=False)}",)


@dataclass(frozen=True, kw_only=True, slots=True)
class SetEntrypoint(BaseInstruction):
    """Set what the command of a container is given to. The command that was set before is gone then."""

    argv: tuple[str, ...]

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `ENTRYPOINT` in its JSON form."""
        return (f"ENTRYPOINT {json.dumps(list(self.argv), ensure_ascii=False)}",)


@dataclass(frozen=True, kw_only=True, slots=True)
class SetShell(BaseInstruction):
    """Set what runs the commands of later layers; a command comes as its last argument."""

    argv: tuple[str, ...]

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `SHELL` in its JSON form."""
        return (f"SHELL {json.dumps(list(self.argv), ensure_ascii=False)}",)


@dataclass(frozen=True, kw_only=True, slots=True)
class PrependPath(BaseInstruction):
    """Put a folder in front of the image's PATH."""

    folder: str

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `ENV`."""
        return (f"ENV PATH={self.folder}:$PATH",)


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
