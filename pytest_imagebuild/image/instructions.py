"""What a layer does: frozen values, each with the Dockerfile lines that say the same.

The lines are those of section 1 of the reference for builder version 2026.10. They describe; no engine executes them.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TypeGuard

from pytest_imagebuild.image.builder import Builder
from pytest_imagebuild.image.function_call import CallFunction
from pytest_imagebuild.image.packages import (
    AptInstall,
    MicromambaInstall,
    PipInstall,
    PipInstallProject,
    PoetryInstall,
    PrivateRepositories,
    UvPipInstall,
    UvSync,
)
from pytest_imagebuild.image.sources import LocalSource

__all__ = [
    "AddPython",
    "AptInstall",
    "CallFunction",
    "Change",
    "CopyLocal",
    "Install",
    "Instruction",
    "MicromambaInstall",
    "PipInstall",
    "PipInstallProject",
    "PoetryInstall",
    "PrependPath",
    "PrivateRepositories",
    "Run",
    "SetCommand",
    "SetEntrypoint",
    "SetEnv",
    "SetShell",
    "SetWorkdir",
    "UvPipInstall",
    "UvSync",
    "is_open",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Run a shell command, verbatim."""

    command: str

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `RUN`."""
        return (f"RUN {self.command}",)


@dataclass(frozen=True, kw_only=True, slots=True)
class SetEnv:
    """Set environment variables that stay in the image: pairs of name and literal value."""

    variables: tuple[tuple[str, str], ...]

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `ENV` for each variable, its value quoted."""
        return tuple(f"ENV {name}={shlex.quote(value)}" for name, value in self.variables)


@dataclass(frozen=True, kw_only=True, slots=True)
class SetWorkdir:
    """Set the working directory of later steps and of containers; a relative one is relative to the one before."""

    path: str

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `WORKDIR`, quoted."""
        return (f"WORKDIR {shlex.quote(self.path)}",)


@dataclass(frozen=True, kw_only=True, slots=True)
class SetCommand:
    """Set what a container runs when it is told nothing else."""

    argv: tuple[str, ...]

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `CMD` in its JSON form."""
        return (f"CMD {json.dumps(list(self.argv), ensure_ascii=False)}",)


@dataclass(frozen=True, kw_only=True, slots=True)
class SetEntrypoint:
    """Set what the command of a container is given to. The command that was set before is gone then."""

    argv: tuple[str, ...]

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `ENTRYPOINT` in its JSON form."""
        return (f"ENTRYPOINT {json.dumps(list(self.argv), ensure_ascii=False)}",)


@dataclass(frozen=True, kw_only=True, slots=True)
class SetShell:
    """Set what runs the commands of later layers; a command comes as its last argument."""

    argv: tuple[str, ...]

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `SHELL` in its JSON form."""
        return (f"SHELL {json.dumps(list(self.argv), ensure_ascii=False)}",)


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyLocal:
    """Copy local files to their full remote paths."""

    source: LocalSource

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `COPY` of a context that holds the files at their remote paths."""
        return ("COPY . /",)


@dataclass(frozen=True, kw_only=True, slots=True)
class AddPython:
    """Put a standalone CPython of a full version ("3.13.17", "3.14.9t") into `/usr/local`."""

    version: str

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `COPY` of a context that holds that Python."""
        return ("COPY /python/. /usr/local",)


@dataclass(frozen=True, kw_only=True, slots=True)
class PrependPath:
    """Put a folder in front of the image's PATH."""

    folder: str

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `ENV`."""
        return (f"ENV PATH={self.folder}:$PATH",)


Change = SetEnv | SetWorkdir | SetCommand | SetEntrypoint | SetShell | PrependPath
Install = AptInstall | PipInstall | UvPipInstall | UvSync | PoetryInstall | MicromambaInstall
Instruction = Run | CallFunction | CopyLocal | AddPython | Change | Install | PipInstallProject | PrivateRepositories


def is_open(instruction: Instruction) -> TypeGuard[Install]:
    """Say whether an instruction leaves open which packages it installs."""
    match instruction:
        case AptInstall() | PipInstall() | UvPipInstall() | MicromambaInstall():
            return True
        case UvSync():
            return instruction.is_open
        case PoetryInstall():
            return instruction.ignore_lockfile
        case _:
            return False
