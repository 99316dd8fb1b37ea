"""Dockerfiles: text to typed instructions, stages and variables. Pure: no disk, no engine.

Facts are those of Docker's Dockerfile reference and of BuildKit's behaviour, as of frontend 1.x.
"""

from pytest_imagebuild.dockerfile.fault import DockerfileError
from pytest_imagebuild.dockerfile.instructions import (
    Command,
    Copy,
    Flags,
    From,
    Healthcheck,
    Heredoc,
    Instruction,
    Mount,
    Pairs,
    Run,
    Value,
    Words,
)
from pytest_imagebuild.dockerfile.parser import parse, parse_instruction
from pytest_imagebuild.dockerfile.stages import Dockerfile, Stage, read

__all__ = [
    "Command",
    "Copy",
    "Dockerfile",
    "DockerfileError",
    "Flags",
    "From",
    "Healthcheck",
    "Heredoc",
    "Instruction",
    "Mount",
    "Pairs",
    "Run",
    "Stage",
    "Value",
    "Words",
    "parse",
    "parse_instruction",
    "read",
]
