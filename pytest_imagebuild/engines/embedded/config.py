"""The configuration of an image in OCI terms (image-spec, "config"), and what a container makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from pytest_imagebuild.engines.embedded.files import UpperFolder
from pytest_imagebuild.engines.protocol import ConfigChange

__all__ = ["PATH", "changed", "command_of", "environment_of", "workdir_of"]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def changed(config: Mapping[str, Any], change: ConfigChange) -> dict[str, Any]:
    """Return the configuration of a layer: the parent's, and the change."""
    result = dict(config)
    if change.environment:
        variables = {**_variables(config), **dict(change.environment)}
        result["Env"] = [f"{name}={value}" for name, value in variables.items()]
    if change.workdir is not None:
        result["WorkingDir"] = workdir_of(config, change.workdir)
    if change.entrypoint is not None:
        result["Entrypoint"] = list(change.entrypoint)
    if change.command is not None:
        result["Cmd"] = list(change.command)
    return result


def workdir_of(config: Mapping[str, Any], workdir: str = "") -> str:
    """Return the absolute path of a working directory; a relative one is below the image's own."""
    parts: list[str] = []
    for part in PurePosixPath("/", config.get("WorkingDir") or "/", workdir).parts[1:]:
        if part == "..":
            del parts[-1:]
        else:
            parts.append(part)
    return "/" + "/".join(parts)


def environment_of(config: Mapping[str, Any], upper: UpperFolder, hostname: str) -> dict[str, str]:
    """Return the variables of a container of root: what Docker sets, below those of the image."""
    return {"PATH": PATH, "HOSTNAME": hostname, "HOME": _home(upper, "0"), **_variables(config)}


def command_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the image itself runs."""
    return (*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ()))


def _variables(config: Mapping[str, Any]) -> dict[str, str]:
    return dict(pair.partition("=")[::2] for pair in config.get("Env") or ())


def _home(upper: UpperFolder, uid: str) -> str:
    for line in upper.read_text("/etc/passwd").splitlines():
        fields = line.split(":")
        if len(fields) > 5 and fields[2] == uid:
            return fields[5]
    return "/root" if uid == "0" else "/"
