"""What the engine is told to do for a layer: a `Work` from its instructions, its pins and the host's settings."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_imagebuild.build.installs import CONSTRAINTS, constraints_text, requirement_files, tool_of
from pytest_imagebuild.engines.protocol import ConfigChange, FileEntry, Work
from pytest_imagebuild.image.builder import Builder
from pytest_imagebuild.image.instructions import (
    AptInstall,
    Install,
    Instruction,
    PipInstall,
    Run,
    SetCommand,
    SetEnv,
    SetWorkdir,
    UvPipInstall,
)
from pytest_imagebuild.image.wording import without_credentials
from pytest_imagebuild.lockfile import Pin
from pytest_imagebuild.plan.plan import PlannedLayer

__all__ = ["StepNetwork", "commands_for_people", "layer_work", "resolving_work"]

QUIET = {
    "DEBIAN_FRONTEND": "noninteractive",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_CACHE_DIR": "1",
    "PIP_NO_INPUT": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
    "UV_NO_CACHE": "1",
    "UV_NO_PROGRESS": "1",
    "UV_LINK_MODE": "copy",
    "UV_PYTHON_DOWNLOADS": "never",
}
"""Set for the commands of every step: no questions, no caches in layers. A step's `env=` wins over it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepNetwork:
    """The host's network settings for steps: variables, files (a CA bundle), and the network to use."""

    environment: Mapping[str, str]
    tools: tuple[FileEntry, ...]
    network: str


def layer_work(
    layer: PlannedLayer, pins: Sequence[Pin], network: StepNetwork, extra_tools: tuple[FileEntry, ...]
) -> Work:
    """Return the work that makes `layer`; `pins` are what its install instruction installs."""
    tools = (*network.tools, *layer.tools, *extra_tools)
    if layer.install and pins:
        tools += tuple(_text_file(path, text) for path, text in requirement_files(pins).items() if text)
    return Work(
        files=layer.files,
        commands=tuple(script for item in layer.instructions if (script := _script(item, pins)) is not None),
        environment={**QUIET, **network.environment, **dict(layer.environment)},
        tools=tools,
        config=_config(layer),
        network=network.network,
    )


def resolving_work(
    layer: PlannedLayer,
    install: Install,
    preferences: Sequence[Pin],
    network: StepNetwork,
    extra_tools: tuple[FileEntry, ...],
) -> Work:
    """Return the work that prints what `install` would install, keeping the versions of `preferences`."""
    tools = (*network.tools, *layer.tools, *extra_tools)
    if preferences:
        tools += (_text_file(CONSTRAINTS, constraints_text(preferences)),)
    return Work(
        commands=(tool_of(install).resolve(constrained=bool(preferences)),),
        environment={**QUIET, **network.environment, **dict(layer.environment)},
        tools=tools,
        network=network.network,
    )


def commands_for_people(layer: PlannedLayer, builder: Builder, index: int) -> str:
    """Return the command at `index` of the layer's work as the user knows it, without the passwords of indexes."""
    instruction = [item for item in layer.instructions if _script(item, ()) is not None][index]
    return without_credentials(instruction.lines(builder)[-1].removeprefix("RUN "))


def _script(instruction: Instruction, pins: Sequence[Pin]) -> str | None:
    match instruction:
        case Run():
            return instruction.command
        case AptInstall() | PipInstall() | UvPipInstall():
            return tool_of(instruction).script(pins)
        case _:
            return None


def _config(layer: PlannedLayer) -> ConfigChange:
    environment: tuple[tuple[str, str], ...] = ()
    workdir: str | None = None
    command: tuple[str, ...] | None = None
    for item in layer.instructions:
        match item:
            case SetEnv():
                environment += item.variables
            case SetWorkdir():
                workdir = posixpath.join(workdir or "", item.path)
            case SetCommand():
                command = item.argv
            case _:
                pass
    return ConfigChange(environment=environment, workdir=workdir, command=command)


def _text_file(path: str, text: str) -> FileEntry:
    return FileEntry(path=path, mode=0o644, data=text.encode())
