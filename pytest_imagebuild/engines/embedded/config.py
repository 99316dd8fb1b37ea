"""What a container makes of the configuration of its image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_imagebuild.engines.configuration import PATH, variables_of
from pytest_imagebuild.engines.embedded.files import UpperFolder

__all__ = ["command_of", "environment_of"]


def environment_of(config: Mapping[str, Any], upper: UpperFolder, hostname: str) -> dict[str, str]:
    """Return the variables of a container of root: what Docker sets, below those of the image."""
    return {"PATH": PATH, "HOSTNAME": hostname, "HOME": _home(upper, "0"), **variables_of(config)}


def command_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the image itself runs."""
    return (*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ()))


def _home(upper: UpperFolder, uid: str) -> str:
    for line in upper.read_text("/etc/passwd").splitlines():
        fields = line.split(":")
        if len(fields) > 5 and fields[2] == uid:
            return fields[5]
    return "/root" if uid == "0" else "/"
