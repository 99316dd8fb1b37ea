"""Conda packages, with micromamba."""
# ruff: noqa: D102 - `Step` and `BaseInstruction` say what the methods of all give

from __future__ import annotations

import posixpath
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_imagebuild.image.step import BaseInstruction, Step
from pytest_imagebuild.image.wording import call_text, listed, quoted, without_channel_logins

if TYPE_CHECKING:
    from pytest_imagebuild.image.builder import Builder
    from pytest_imagebuild.image.instructions import Instruction

__all__ = ["MicromambaInstall", "MicromambaInstallStep"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MicromambaInstall(BaseInstruction):
    """Install conda packages with the image's micromamba; packages and channels come in the order given.

    `spec_file` is a local file, by the path that the user gave; `specs` are the packages that it names, which are known
    once it is read. `root` asks for the root environment whichever is active, with the words of `Image.micromamba`.
    """

    packages: tuple[str, ...] = ()
    spec_file: str | None = None
    channels: tuple[str, ...] = ()
    root: bool = False
    specs: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        return True

    @property
    def names_files(self) -> bool:
        return self.spec_file is not None

    def portable(self) -> MicromambaInstall:
        return replace(self, spec_file=self.remote_spec_file(), specs=())

    def remote_spec_file(self) -> str | None:
        """Give the path in the container of `spec_file`."""
        return None if self.spec_file is None else f"/{posixpath.basename(self.spec_file.replace(chr(92), '/'))}"

    def arguments(self) -> str:
        """Give what is asked for, as shell text."""
        words = [shlex.quote(package) for package in self.packages]
        spec_file = self.remote_spec_file()
        words += [f"-f {shlex.quote(spec_file)} -n base"] if spec_file else []
        return " ".join([*words, *(f"-c {shlex.quote(channel)}" for channel in self.channels)])

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give a `COPY` of the spec file, if any, and the `RUN`."""
        if self.root:
            return (f"RUN micromamba install -n base -y {self.arguments()}",)
        spec_file = self.remote_spec_file()
        copy = [f"COPY {spec_file} {spec_file}"] if spec_file else []
        return (*copy, f"RUN micromamba install {self.arguments()} --yes")


@dataclass(frozen=True, kw_only=True, slots=True)
class MicromambaInstallStep(Step):
    """`Image.micromamba_install`: conda packages and channels in the order given, a spec file by its local path."""

    packages: tuple[str, ...] = ()
    spec_file: str | None = None
    channels: tuple[str, ...] = ()

    def describe(self) -> str:
        arguments = [quoted(without_channel_logins(package)) for package in self.packages]
        if self.spec_file is not None:
            arguments.append(f"spec_file={quoted(self.spec_file)}")
        if self.channels:
            arguments.append(f"channels={listed(map(without_channel_logins, self.channels))}")
        return call_text("micromamba_install", arguments)

    def instructions(self) -> tuple[Instruction, ...]:
        return (MicromambaInstall(packages=self.packages, spec_file=self.spec_file, channels=self.channels),)
