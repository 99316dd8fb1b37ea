"""The configuration of an image in OCI terms (image-spec, "config"): what a layer changes in it, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from pytest_imagebuild.engines.protocol import ConfigChange

__all__ = ["changed", "variables_of", "workdir_of"]


def changed(config: Mapping[str, Any], change: ConfigChange) -> dict[str, Any]:
    """Return the configuration of a layer: the parent's, and the change."""
    result = dict(config)
    if change.environment:
        variables = {**variables_of(config), **dict(change.environment)}
        result["Env"] = [f"{name}={value}" for name, value in variables.items()]
    if change.workdir is not None:
        result["WorkingDir"] = workdir_of(config, change.workdir)
    if change.entrypoint is not None:
        result["Entrypoint"] = list(change.entrypoint)
    if change.command is not None:
        result["Cmd"] = list(change.command)
    return result


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
