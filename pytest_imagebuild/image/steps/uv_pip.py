"""Python packages, with uv."""
# ruff: noqa: D102 - `Step` and `BaseInstruction` say what the methods of all give

from __future__ import annotations

import posixpath
import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_imagebuild.image.canonical import INLINE
from pytest_imagebuild.image.step import BaseInstruction, Step
from pytest_imagebuild.image.steps.pip_options import PipOptions
from pytest_imagebuild.image.wording import call_text, quoted, without_credentials

if TYPE_CHECKING:
    from pytest_imagebuild.image.builder import Builder
    from pytest_imagebuild.image.instructions import Instruction

__all__ = ["UvPipInstall", "UvPipInstallStep"]


@dataclass(frozen=True, kw_only=True, slots=True)
class UvPipInstall(BaseInstruction):
    """Install Python packages with uv into the image's Python.

    `requirements` are local files, by the paths that the user gave. `uv_version` None means the one that the
    builder version pins (the reference takes the latest).
    """

    packages: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    options: PipOptions = field(default=PipOptions(), metadata=INLINE)
    uv_version: str | None = None

    @property
    def is_open(self) -> bool:
        return True

    @property
    def names_files(self) -> bool:
        return bool(self.requirements)

    def portable(self) -> UvPipInstall:
        return replace(self, requirements=self.remote_requirements())

    def remote_requirements(self) -> tuple[str, ...]:
        """Give the paths in the container of `requirements`, in their order; equal base names do not collide."""
        names = (posixpath.basename(path.replace("\\", "/")) for path in self.requirements)
        return tuple(f"/.uv/{position}/{name}" for position, name in enumerate(names))

    def lines(self, builder: Builder) -> tuple[str, ...]:
        """Give a `COPY` of uv, one for each requirements file, and the `RUN`."""
        uv = self.uv_version or builder.uv_version
        remote = self.remote_requirements()
        arguments = ["--python $(command -v python)", "--compile-bytecode", *self.options.index_flags()]
        if self.options.pre:
            arguments.append("--prerelease allow")
        if self.options.extra_options:
            arguments.append(self.options.extra_options)
        arguments += [f"--requirements {shlex.quote(path)}" for path in remote]
        arguments += [shlex.quote(package) for package in self.packages]
        return (
            f"COPY --from=ghcr.io/astral-sh/uv:{uv} /uv /.uv/uv",
            *(f"COPY /.{position}_{posixpath.basename(path)} {path}" for position, path in enumerate(remote)),
            f"RUN /.uv/uv pip install {' '.join(arguments)}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class UvPipInstallStep(Step):
    """`Image.uv_pip_install`: packages in the order given, requirement files by their local paths."""

    packages: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    options: PipOptions = field(default=PipOptions(), metadata=INLINE)
    uv_version: str | None = None

    def describe(self) -> str:
        # Index addresses stay out: they may hold a password.
        arguments = [quoted(without_credentials(package)) for package in self.packages]
        if self.requirements:
            arguments.append(f"requirements=[{', '.join(map(quoted, self.requirements))}]")
        if self.options.pre:
            arguments.append("pre=True")
        return call_text("uv_pip_install", arguments)

    def instructions(self) -> tuple[Instruction, ...]:
        install = UvPipInstall(
            packages=tuple(sorted(self.packages)),
            requirements=self.requirements,
            options=self.options,
            uv_version=self.uv_version,
        )
        return (install,)
