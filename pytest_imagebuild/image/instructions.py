"""What a layer does: frozen values, each with the Dockerfile lines that say the same.

The lines are those of section 1 of the reference for builder version 2026.10. They describe; no engine executes them.
This module has all of them: it is for who makes layers. A plan gets along with those that it has, as
`BaseInstruction`s.
"""

from __future__ import annotations

from pytest_imagebuild.image.function_call import CallFunction
from pytest_imagebuild.image.steps.apt import AptInstall
from pytest_imagebuild.image.steps.commands import Run
from pytest_imagebuild.image.steps.conda import MicromambaInstall
from pytest_imagebuild.image.steps.copying import CopyLocal
from pytest_imagebuild.image.steps.pip import PipInstall
from pytest_imagebuild.image.steps.poetry import PoetryInstall
from pytest_imagebuild.image.steps.private_repos import PrivateRepositories
from pytest_imagebuild.image.steps.pyproject import PipInstallProject
from pytest_imagebuild.image.steps.python import AddPython
from pytest_imagebuild.image.steps.settings import PrependPath, SetCommand, SetEntrypoint, SetShell, SetWorkdir
from pytest_imagebuild.image.steps.uv_pip import UvPipInstall
from pytest_imagebuild.image.steps.uv_sync import UvSync
from pytest_imagebuild.image.steps.variables import SetEnv

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
]

Change = SetEnv | SetWorkdir | SetCommand | SetEntrypoint | SetShell | PrependPath
Install = AptInstall | PipInstall | UvPipInstall | UvSync | PoetryInstall | MicromambaInstall
Instruction = Run | CallFunction | CopyLocal | AddPython | Change | Install | PipInstallProject | PrivateRepositories
