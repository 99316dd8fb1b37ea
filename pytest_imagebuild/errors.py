"""Every exception that the package raises on purpose.

::

    ImageBuildError                 root; also what a failed build raises
    ├── DefinitionError             a chain call is wrong; carries the user's file and line
    │   ├── LocalFileError          a file or folder of `add_local_*` or `requirements=` is missing
    │   ├── ModuleNotMountable      a module of `add_local_python_source` cannot be shipped
    │   └── SecretError             a Secret's values cannot be had, or do not fit what they are for
    ├── StepError                   a step ran and failed: command, exit code, end of its output
    ├── BaseImageError              a base image cannot be had: unknown, unreachable, not bootstrappable
    ├── PythonMissingError          the image has no Python that can run the tests
    ├── LockfileError               imagebuild.lock is corrupt, too new, or may not be changed
    ├── EngineError                 the engine refused or lost a call
    │   └── EngineUnavailableError  no engine answers
    ├── WireError                   a worker sent what the protocol does not allow
    └── UnknownVersionError         no such image builder version

Each message says what was asked, what was found, and the next action.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

__all__ = [
    "BaseImageError",
    "DefinitionError",
    "EngineError",
    "EngineUnavailableError",
    "ImageBuildError",
    "LocalFileError",
    "LockfileError",
    "ModuleNotMountable",
    "PythonMissingError",
    "SecretError",
    "SourceLocation",
    "StepError",
    "UnknownVersionError",
    "WireError",
    "disk_is_full",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceLocation:
    """A line of the user's code: where a chain call stands."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class ImageBuildError(Exception):
    """Anything that keeps an image from being defined, built or run."""


class DefinitionError(ImageBuildError):
    """A chain call is wrong. `where` is the line of that call, when it is known."""

    def __init__(self, message: str, *, where: SourceLocation | None = None) -> None:
        super().__init__(f"{where}: {message}" if where else message)
        self.where = where


class LocalFileError(DefinitionError):
    """A local file or folder that a step names is missing or of the wrong kind."""


class ModuleNotMountable(DefinitionError):
    """A module named in `add_local_python_source` cannot be found or shipped."""


class SecretError(DefinitionError):
    """The values of a `Secret` cannot be had on this machine, or are not those that are needed."""


class StepError(ImageBuildError):
    """A step was executed and failed.

    `command` is what failed, `exit_code` its status, `output` the end of what it printed,
    `where` the line of the chain call.
    """

    def __init__(
        self,
        *,
        step: str,
        command: str,
        exit_code: int,
        output: str,
        where: SourceLocation | None = None,
        advice: str = "",
    ) -> None:
        self.step = step
        self.command = command
        self.exit_code = exit_code
        self.output = output
        self.where = where
        head = f"{where}: {step} failed" if where else f"{step} failed"
        lines = [head, f"  command: {command}", f"  exit code: {exit_code}"]
        if output.strip():
            lines += ["  end of its output:", *(f"    {line}" for line in output.rstrip().splitlines())]
        if advice:
            lines.append(f"  {advice}")
        super().__init__("\n".join(lines))


class BaseImageError(ImageBuildError):
    """A base image cannot be had."""


class PythonMissingError(ImageBuildError):
    """An image has no Python that can run tests."""


class LockfileError(ImageBuildError):
    """The lockfile cannot be read, is of a newer major version, or lacks a record that may not be written."""


class EngineError(ImageBuildError):
    """An engine refused or lost a call."""


class EngineUnavailableError(EngineError):
    """No engine answers."""


class WireError(ImageBuildError):
    """A worker sent something that the protocol does not allow."""


class UnknownVersionError(ImageBuildError):
    """There is no data file for the image builder version that was asked for."""


def disk_is_full(error: OSError) -> bool:
    """Tell whether there is no room: none at all, or none for this user."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
