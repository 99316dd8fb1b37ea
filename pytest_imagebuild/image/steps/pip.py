"""Python packages, with pip."""
# ruff: noqa: D102 - `Step` and `BaseInstruction` say what the methods of all give

from __future__ import annotations

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

__all__ = ["REQUIREMENTS", "PipInstall", "PipInstallStep", "RequirementsStep"]

REQUIREMENTS = "/.requirements.txt"
"""Where the file of `pip_install_from_requirements` is while pip runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PipInstall(BaseInstruction):
    """Install Python packages with the image's pip.

    `packages` come in the order of the command; `executable` is the shell text that starts pip. `requirements` is at
    most one local file, by the path that the user gave.
    """

    packages: tuple[str, ...]
    options: PipOptions = field(default=PipOptions(), metadata=INLINE)
    upgrade: bool = False
    executable: str = "python -m pip"
    requirements: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        return True

    @property
    def names_files(self) -> bool:
        return bool(self.requirements)

    def portable(self) -> PipInstall:
        return replace(self, requirements=self.remote_requirements())

    def remote_requirements(self) -> tuple[str, ...]:
        """Give the paths in the container of `requirements`, in their order."""
        return tuple(REQUIREMENTS for _ in self.requirements)

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `RUN`."""
        options = " ".join(self.options.index_flags())
        if self.options.pre:
            # Two spaces when it comes first: the reference emits them, and its golden lists hold them.
            options += " --pre"
        if self.options.extra_options:
            options += f" {self.options.extra_options}" if options else self.options.extra_options
        verb = "install --upgrade" if self.upgrade else "install"
        if self.requirements:
            # The reference says where to find links twice, once as it is.
            twice = f" -f {self.options.find_links}" if self.options.find_links is not None else ""
            run = f"RUN {self.executable} {verb} -r {REQUIREMENTS}{twice} {options}"
            return (f"COPY {REQUIREMENTS} {REQUIREMENTS}", run.strip())
        return (f"RUN {self.executable} {verb} {shlex.join(self.packages)} {options}".strip(),)


@dataclass(frozen=True, kw_only=True, slots=True)
class PipInstallStep(Step):
    """`Image.pip_install`: packages in the order given; the layer has them sorted."""

    packages: tuple[str, ...]
    options: PipOptions = field(default=PipOptions(), metadata=INLINE)

    def describe(self) -> str:
        # Index addresses stay out: they may hold a password.
        packages = (quoted(without_credentials(package)) for package in self.packages)
        return call_text("pip_install", [*packages, *(["pre=True"] if self.options.pre else [])])

    def instructions(self) -> tuple[Instruction, ...]:
        install = PipInstall(
            packages=tuple(sorted(self.packages)),
            options=self.options,
        )
        return (install,)


@dataclass(frozen=True, kw_only=True, slots=True)
class RequirementsStep(Step):
    """`Image.pip_install_from_requirements`: a requirements file by its local path."""

    requirements_txt: str
    options: PipOptions = field(default=PipOptions(), metadata=INLINE)

    def describe(self) -> str:
        return call_text("pip_install_from_requirements", [quoted(self.requirements_txt)])

    def instructions(self) -> tuple[Instruction, ...]:
        install = PipInstall(
            packages=(),
            requirements=(self.requirements_txt,),
            options=self.options,
        )
        return (install,)
