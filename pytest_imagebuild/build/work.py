"""What the engine is told to do for a layer: a `Work` from its instructions, its pins and the host's settings."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pytest_imagebuild.build.functions import COMMAND
from pytest_imagebuild.build.installs import (
    CONSTRAINTS,
    constraints_text,
    requirement_files,
    standalone_script,
    tool_of,
)
from pytest_imagebuild.build.settings import StepNetwork
from pytest_imagebuild.engines.entries import FileEntry, read_entry
from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.work import ConfigChange, DockerfileWork, Work
from pytest_imagebuild.image.builder import Builder
from pytest_imagebuild.image.imports import IMAGE_VARIABLE
from pytest_imagebuild.image.instructions import (
    AddPython,
    AptInstall,
    CallFunction,
    Install,
    Instruction,
    MicromambaInstall,
    PipInstall,
    PrependPath,
    Run,
    SetCommand,
    SetEntrypoint,
    SetEnv,
    SetShell,
    SetWorkdir,
    UvPipInstall,
)
from pytest_imagebuild.image.wording import without_channel_logins, without_credentials
from pytest_imagebuild.lockfile import Pin
from pytest_imagebuild.plan.dockerfiles import PlannedDockerfile
from pytest_imagebuild.plan.plan import PlannedLayer

__all__ = ["commands_for_people", "dockerfile_work", "layer_work", "resolving_work"]

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


def layer_work(
    layer: PlannedLayer,
    pins: Sequence[Pin],
    network: StepNetwork,
    extra_tools: tuple[FileEntry, ...],
    *,
    secrets: Mapping[str, str] | None = None,
    gpus: tuple[str, ...] = (),
) -> Work:
    """Return the work that makes `layer`; `pins` are what its install instruction installs.

    `secrets` are the variables of the layer's secrets, `gpus` are ids.
    """
    tools = (*network.tools, *layer.tools, *extra_tools)
    if layer.install and pins and not isinstance(layer.install, MicromambaInstall):
        tools += tuple(_text_file(path, text) for path, text in requirement_files(pins, _asked(layer)).items() if text)
    call = layer.function.call if layer.function else None
    return Work(
        files=layer.files,
        commands=tuple(script for item in layer.instructions if (script := _script(item, pins)) is not None),
        environment={**QUIET, **network.environment, **dict(layer.environment), **_own_variables(layer)},
        tools=tools,
        config=_config(layer),
        network=network.network,
        secrets=_but_environment(secrets, layer),
        memory=call.memory if call else None,
        cpu=call.cpu if call else None,
        timeout=call.timeout if call else None,
        gpus=gpus,
    )


def dockerfile_work(
    layer: PlannedLayer,
    planned: PlannedDockerfile,
    bases: Mapping[str, BuiltLayer],
    network: StepNetwork,
    *,
    secrets: Mapping[str, str] | None = None,
) -> DockerfileWork:
    """Return the work of Dockerfile lines. Nothing is set for their commands but what the user and his host set.

    Caches are theirs to have (`RUN --mount=type=cache`), so `QUIET` is not for them.
    """
    return DockerfileWork(
        text=planned.text,
        context=layer.files,
        build_args=planned.build_args,
        bases=bases,
        host_settings=network.environment,
        environment=dict(layer.environment),
        tools=network.tools,
        network=network.network,
        secrets=_but_environment(secrets, layer),
    )


def resolving_work(
    layer: PlannedLayer,
    install: Install,
    preferences: Sequence[Pin],
    network: StepNetwork,
    extra_tools: tuple[FileEntry, ...],
    *,
    secrets: Mapping[str, str] | None = None,
) -> Work:
    """Return the work that prints what `install` would install, keeping the versions of `preferences`."""
    tools = (*network.tools, *layer.tools, *extra_tools)
    if preferences:
        tools += (_text_file(CONSTRAINTS, constraints_text(preferences)),)
    return Work(
        commands=(tool_of(install).resolve(constrained=bool(preferences), asked=_asked(layer)),),
        environment={**QUIET, **network.environment, **dict(layer.environment)},
        tools=tools,
        network=network.network,
        secrets=_but_environment(secrets, layer),
    )


def commands_for_people(layer: PlannedLayer, builder: Builder, index: int) -> str:
    """Return the command at `index` of the layer's work as the user knows it, without the passwords of indexes."""
    instruction = [item for item in layer.instructions if _script(item, ()) is not None][index]
    if isinstance(instruction, CallFunction):
        return instruction.shown
    public = without_channel_logins if isinstance(instruction, MicromambaInstall) else without_credentials
    return public(instruction.lines(builder)[-1].removeprefix("RUN "))


def _but_environment(secrets: Mapping[str, str] | None, layer: PlannedLayer) -> Mapping[str, str]:
    """Return the secrets that the step's own `env=` does not replace."""
    own = dict(layer.environment)
    return {name: value for name, value in (secrets or {}).items() if name not in own}


def _asked(layer: PlannedLayer) -> tuple[str, ...]:
    """Return the texts that ask for packages: those of the call, and its requirements files."""
    files = tuple(read_entry(entry).decode("utf-8", "replace") for entry in layer.tools)
    asking = layer.install if isinstance(layer.install, (AptInstall, PipInstall, UvPipInstall)) else None
    return (*(asking.packages if asking else ()), *files)


def _script(instruction: Instruction, pins: Sequence[Pin]) -> str | None:
    if isinstance(instruction, Install):
        return tool_of(instruction).script(pins)
    match instruction:
        case Run():
            return instruction.command
        case AddPython():
            return standalone_script(instruction.version)
        case CallFunction():
            return COMMAND
        case _:
            return None


def _own_variables(layer: PlannedLayer) -> Mapping[str, str]:
    return {IMAGE_VARIABLE: layer.function.image} if layer.function else {}


def _config(layer: PlannedLayer) -> ConfigChange:
    change = ConfigChange()
    for item in layer.instructions:
        match item:
            case SetEnv():
                change = replace(change, environment=change.environment + item.variables)
            case SetWorkdir():
                change = replace(change, workdir=posixpath.join(change.workdir or "", item.path))
            case SetCommand():
                change = replace(change, command=item.argv)
            case SetEntrypoint():
                change = replace(change, entrypoint=item.argv)
            case PrependPath():
                change = replace(change, search=(item.folder, *change.search))
            case SetShell():
                change = replace(change, shell=item.argv)
            case _:
                pass
    return change


def _text_file(path: str, text: str) -> FileEntry:
    return FileEntry(path=path, mode=0o644, data=text.encode())
