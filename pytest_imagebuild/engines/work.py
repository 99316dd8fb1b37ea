"""What an engine does for a layer: commands over files, or a Dockerfile; and how it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.volumes import VolumeMount

__all__ = ["CommandFailed", "ConfigChange", "DockerfileWork", "Work", "WorkEnd"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigChange:
    """Changes of the image configuration that a layer makes. None leaves the parent's value.

    A relative `workdir` is below the parent's; the engine makes its folder in the layer. `search` are folders that come
    in front of the parent's PATH. An `entrypoint` without a `command` takes the parent's command away, as in a
    Dockerfile. `shell` runs the commands of later layers, which come as its last argument, and starts sessions.
    """

    environment: tuple[tuple[str, str], ...] = ()
    workdir: str | None = None
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    shell: tuple[str, ...] | None = None
    search: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What happens in a container of the parent: files are put in place, then commands run in order.

    Each command is a script for the shell of the parent (`/bin/sh -c` where it names none), run as root with no
    standard input; the first that fails ends the work. `environment`, `secrets` and `tools` are there for the commands
    only: they leave no trace in the layer, its configuration or its history. `secrets` are variables whose values
    nothing may show; they win over `environment`.
    """

    files: tuple[FileEntry, ...] = ()
    commands: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    tools: tuple[FileEntry, ...] = ()
    config: ConfigChange = field(default_factory=ConfigChange)
    network: str = "default"
    """`default`, `host` or `none`."""
    volumes: tuple[VolumeMount, ...] = ()
    """None is inside of another, and each must be there. They are mounted for the commands."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    memory: int | None = None
    """What all processes together may use, in bytes, swap included; None is no limit."""
    cpu: float | None = None
    """What all processes together may use, in cores; None is no limit."""
    timeout: float | None = None
    """Seconds after which the commands are killed; None is no limit."""
    gpus: tuple[str, ...] = ()
    """What the commands have of `Engine.gpus()`, by ids: no other GPU is there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DockerfileWork:
    """A Dockerfile to execute.

    `context` are the files that `COPY` and `ADD` find, their paths absolute from the root of the context; a path that
    ends with a slash is a folder. `bases` are the layers that its references stand for. `host_settings` (proxies,
    package indexes), `environment`, `secrets` and `tools` are there for `RUN` only: they leave no trace in the layer,
    its configuration or its history. A value of `secrets` is also what `RUN --mount=type=secret` finds under its name,
    and nothing shows it. An engine may leave out `host_settings` and `tools`; of the others it refuses what it cannot
    give.
    """

    text: str
    context: tuple[FileEntry, ...] = ()
    build_args: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    bases: Mapping[str, BuiltLayer] = field(default_factory=dict)
    host_settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    tools: tuple[FileEntry, ...] = ()
    network: str = "default"

    @property
    def variables(self) -> dict[str, str]:
        """All that `RUN` sees besides what the Dockerfile says."""
        return {**self.host_settings, **self.environment, **self.secrets}


class CommandFailed(Exception):
    """A command of a `Work` ended with a status other than zero.

    `index` is its place in `commands`; of a `DockerfileWork`, it is a line of `text`, from 1.
    `timed_out` says that it was killed at the end of the work's time, `out_of_memory` that the kernel killed a process
    for want of memory.
    """

    def __init__(
        self, *, index: int, exit_code: int, output: str, timed_out: bool = False, out_of_memory: bool = False
    ) -> None:
        super().__init__(f"command {index} ended with exit code {exit_code}")
        self.index = index
        self.exit_code = exit_code
        self.output = output
        self.timed_out = timed_out
        self.out_of_memory = out_of_memory


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkEnd:
    """How the commands of a `Work` ended. `code` is 128 + signal for killed ones; the rest as in `CommandFailed`."""

    code: int
    timed_out: bool = False
    out_of_memory: bool = False
