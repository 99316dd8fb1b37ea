"""What a layer does: frozen values, each with the Dockerfile lines that say the same.

The lines are those of section 1 of the reference for builder version 2026.10. They describe; no engine executes them.
"""

from __future__ import annotations

import json
import posixpath
import shlex
from dataclasses import dataclass

from pytest_imagebuild.image.builder import Builder
from pytest_imagebuild.image.sources import LocalSource

__all__ = [
    "AptInstall",
    "CopyLocal",
    "Install",
    "Instruction",
    "PipInstall",
    "Run",
    "SetCommand",
    "SetEnv",
    "SetWorkdir",
    "UvPipInstall",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Run a shell command, verbatim."""

    command: str

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `RUN`."""
        return (f"RUN {self.command}",)


@dataclass(frozen=True, kw_only=True, slots=True)
class SetEnv:
    """Set environment variables that stay in the image: pairs of name and literal value."""

    variables: tuple[tuple[str, str], ...]

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `ENV` for each variable, its value quoted."""
        return tuple(f"ENV {name}={shlex.quote(value)}" for name, value in self.variables)


@dataclass(frozen=True, kw_only=True, slots=True)
class SetWorkdir:
    """Set the working directory of later steps and of containers; a relative one is relative to the one before."""

    path: str

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `WORKDIR`, quoted."""
        return (f"WORKDIR {shlex.quote(self.path)}",)


@dataclass(frozen=True, kw_only=True, slots=True)
class SetCommand:
    """Set what a container runs when it is told nothing else."""

    argv: tuple[str, ...]

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `CMD` in its JSON form."""
        return (f"CMD {json.dumps(list(self.argv), ensure_ascii=False)}",)


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyLocal:
    """Copy local files to their full remote paths."""

    source: LocalSource

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `COPY` of a context that holds the files at their remote paths."""
        return ("COPY . /",)


@dataclass(frozen=True, kw_only=True, slots=True)
class AptInstall:
    """Install Debian packages, in the order given."""

    packages: tuple[str, ...]

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give a `RUN` that updates the index and one that installs."""
        return ("RUN apt-get update", f"RUN apt-get install -y {shlex.join(self.packages)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PipInstall:
    """Install Python packages with the image's pip.

    `packages` come in the order of the command; `extra_options` is shell text, taken as it is; `executable` is the
    shell text that starts pip.
    """

    packages: tuple[str, ...]
    find_links: str | None = None
    index_url: str | None = None
    extra_index_url: str | None = None
    pre: bool = False
    extra_options: str = ""
    upgrade: bool = False
    executable: str = "python -m pip"

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `RUN`."""
        flags = _index_flags(self)
        options = " ".join(flags)
        if self.pre:
            # Two spaces when it comes first: the reference emits them, and its golden lists hold them.
            options += " --pre"
        if self.extra_options:
            options += f" {self.extra_options}" if options else self.extra_options
        verb = "install --upgrade" if self.upgrade else "install"
        return (f"RUN {self.executable} {verb} {shlex.join(self.packages)} {options}".strip(),)


@dataclass(frozen=True, kw_only=True, slots=True)
class UvPipInstall:
    """Install Python packages with uv into the image's Python.

    `requirements` are local files, by the paths that the user gave. `uv_version` None means the one that the
    builder version pins (the reference takes the latest).
    """

    packages: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    find_links: str | None = None
    index_url: str | None = None
    extra_index_url: str | None = None
    pre: bool = False
    extra_options: str = ""
    uv_version: str | None = None

    def remote_requirements(self) -> tuple[str, ...]:
        """Give the paths in the container of `requirements`, in their order; equal base names do not collide."""
        names = (posixpath.basename(path.replace("\\", "/")) for path in self.requirements)
        return tuple(f"/.uv/{position}/{name}" for position, name in enumerate(names))

    def lines(self, builder: Builder) -> tuple[str, ...]:
        """Give a `COPY` of uv, one for each requirements file, and the `RUN`."""
        uv = self.uv_version or builder.uv_version
        remote = self.remote_requirements()
        arguments = ["--python $(command -v python)", "--compile-bytecode", *_index_flags(self)]
        if self.pre:
            arguments.append("--prerelease allow")
        if self.extra_options:
            arguments.append(self.extra_options)
        arguments += [f"--requirements {shlex.quote(path)}" for path in remote]
        arguments += [shlex.quote(package) for package in self.packages]
        return (
            f"COPY --from=ghcr.io/astral-sh/uv:{uv} /uv /.uv/uv",
            *(f"COPY /.{position}_{posixpath.basename(path)} {path}" for position, path in enumerate(remote)),
            f"RUN /.uv/uv pip install {' '.join(arguments)}",
        )


Install = AptInstall | PipInstall | UvPipInstall
Instruction = Run | SetEnv | SetWorkdir | SetCommand | CopyLocal | AptInstall | PipInstall | UvPipInstall


def _index_flags(install: PipInstall | UvPipInstall) -> list[str]:
    options = {
        "--find-links": install.find_links,
        "--index-url": install.index_url,
        "--extra-index-url": install.extra_index_url,
    }
    return [f"{flag} {shlex.quote(value)}" for flag, value in options.items() if value is not None]
