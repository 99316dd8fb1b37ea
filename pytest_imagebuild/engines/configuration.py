"""The configuration of an image in OCI terms (image-spec, "config"): what a layer changes in it, and what it says."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_imagebuild.engines.work import ConfigChange

__all__ = ["PATH", "changed", "shell_of", "started_by", "variables_of", "workdir_of"]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for in an image that does not say it, as Docker has it."""


def changed(config: Mapping[str, Any], change: ConfigChange) -> dict[str, Any]:
    """Return the configuration of a layer: the parent's, and the change."""
    result = dict(config)
    if change.environment or change.search:
        variables = {**variables_of(config), **dict(change.environment)}
        if change.search:
            variables["PATH"] = ":".join([*change.search, variables.get("PATH") or PATH])
        result["Env"] = [f"{name}={value}" for name, value in variables.items()]
    if change.workdir is not None:
        result["WorkingDir"] = workdir_of(config, change.workdir)
    if change.entrypoint is not None:
        result["Entrypoint"] = list(change.entrypoint)
        result["Cmd"] = []
    if change.command is not None:
        result["Cmd"] = list(change.command)
    if change.shell is not None:
        result["Shell"] = list(change.shell)
    return result


def shell_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the words in front of a command of a step."""
    return tuple(config.get("Shell") or ("/bin/sh", "-c"))


def started_by(config: Mapping[str, Any], command: Sequence[str]) -> list[str]:
    """Return what starts a session: `command`, by the image's shell where it names one."""
    if not config.get("Shell"):
        return list(command)
    return [*shell_of(config), f"exec {shlex.join(command)}"]


def variables_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables of an image."""
    return dict(pair.partition("=")[::2] for pair in config.get("Env") or ())


def workdir_of(config: Mapping[str, Any], workdir: str = "") -> str:
    """Return the absolute path of a working directory; a relative one is below the image's own."""
    parts: list[str] = []
    for part in PurePosixPath("/", config.get("WorkingDir") or "/", workdir).parts[1:]:
        if part == "..":
            del parts[-1:]
        else:
            parts.append(part)
    return "/" + "/".join(parts)
