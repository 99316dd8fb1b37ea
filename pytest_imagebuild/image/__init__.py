"""The pure description of an image: the chain, its steps, the layers that they ask for. It describes and never acts."""

from __future__ import annotations

from pytest_imagebuild.image.builder import Builder
from pytest_imagebuild.image.canonical import digest, encode
from pytest_imagebuild.image.chain import Image
from pytest_imagebuild.image.dockerfile_lines import AUTO_DOCKERIGNORE, BuildContext, DockerfileLines
from pytest_imagebuild.image.gpu import GpuRequest
from pytest_imagebuild.image.imports import IMAGE_VARIABLE
from pytest_imagebuild.image.instructions import (
    AddPython,
    AptInstall,
    CopyLocal,
    Install,
    Instruction,
    PipInstall,
    Run,
    SetCommand,
    SetEnv,
    SetWorkdir,
    UvPipInstall,
)
from pytest_imagebuild.image.patterns import NON_PYTHON_FILES, FilePatternMatcher
from pytest_imagebuild.image.secret import Secret
from pytest_imagebuild.image.sources import Ignore, LocalDir, LocalFile, LocalPythonSource, LocalSource
from pytest_imagebuild.image.step import LayerSpec, Step
from pytest_imagebuild.image.volume import Volume

__all__ = [
    "AUTO_DOCKERIGNORE",
    "IMAGE_VARIABLE",
    "NON_PYTHON_FILES",
    "AddPython",
    "AptInstall",
    "BuildContext",
    "Builder",
    "CopyLocal",
    "DockerfileLines",
    "FilePatternMatcher",
    "GpuRequest",
    "Ignore",
    "Image",
    "Install",
    "Instruction",
    "LayerSpec",
    "LocalDir",
    "LocalFile",
    "LocalPythonSource",
    "LocalSource",
    "PipInstall",
    "Run",
    "Secret",
    "SetCommand",
    "SetEnv",
    "SetWorkdir",
    "Step",
    "UvPipInstall",
    "Volume",
    "digest",
    "encode",
]
