"""Install layers: how each tool is asked what it would install, and how exactly that set is installed."""

from __future__ import annotations

from pytest_imagebuild.build.installs.apt import AptTool
from pytest_imagebuild.build.installs.files import CONSTRAINTS, PINS, UNHASHED, constraints_text, requirement_files
from pytest_imagebuild.build.installs.micromamba import MicromambaTool
from pytest_imagebuild.build.installs.pip import PipTool
from pytest_imagebuild.build.installs.poetry import PoetryTool
from pytest_imagebuild.build.installs.standalone import standalone_script
from pytest_imagebuild.build.installs.tool import Tool, advice
from pytest_imagebuild.build.installs.uv import UV, UvTool
from pytest_imagebuild.build.installs.uv_sync import UvSyncTool
from pytest_imagebuild.image.instructions import (
    AptInstall,
    Install,
    MicromambaInstall,
    PipInstall,
    PoetryInstall,
    UvPipInstall,
    UvSync,
)

__all__ = [
    "CONSTRAINTS",
    "PINS",
    "UNHASHED",
    "UV",
    "Tool",
    "advice",
    "constraints_text",
    "requirement_files",
    "standalone_script",
    "tool_of",
]


def tool_of(install: Install) -> Tool:
    """Return the installer of an instruction."""
    match install:
        case AptInstall():
            return AptTool(install)
        case PipInstall():
            return PipTool(install)
        case UvPipInstall():
            return UvTool(install)
        case UvSync():
            return UvSyncTool(install)
        case PoetryInstall():
            return PoetryTool(install)
        case MicromambaInstall():
            return MicromambaTool(install)
