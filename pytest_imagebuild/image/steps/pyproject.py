"""What a local `pyproject.toml` depends on, with pip."""
# ruff: noqa: D102 - `Step` and `BaseInstruction` say what the methods of all give

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_imagebuild.image.canonical import INLINE
from pytest_imagebuild.image.step import BaseInstruction, Step
from pytest_imagebuild.image.steps.pip import PipInstall
from pytest_imagebuild.image.steps.pip_options import PipOptions
from pytest_imagebuild.image.wording import call_text, listed, quoted

if TYPE_CHECKING:
    from pytest_imagebuild.image.builder import Builder
    from pytest_imagebuild.image.instructions import Instruction

__all__ = ["PipInstallProject", "PyprojectStep"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PipInstallProject(BaseInstruction):
    """Install what a local `pyproject.toml` depends on; `extras` are groups of its optional dependencies.

    It becomes a `PipInstall` once the file is read.
    """

    pyproject: str
    extras: tuple[str, ...] = ()
    options: PipOptions = field(default=PipOptions(), metadata=INLINE)

    @property
    def names_files(self) -> bool:
        return True

    def of(self, packages: tuple[str, ...]) -> PipInstall:
        """Give the installation of what was read."""
        return PipInstall(
            packages=tuple(sorted(packages)),
            options=self.options,
        )

    def lines(self, builder: Builder) -> tuple[str, ...]:
        """Give the `RUN`, with the file in the place of what it asks for."""
        return self.of((f"# {self.pyproject}",)).lines(builder)


@dataclass(frozen=True, kw_only=True, slots=True)
class PyprojectStep(Step):
    """`Image.pip_install_from_pyproject`: a project's file by its local path, and groups of optional dependencies."""

    pyproject_toml: str
    optional_dependencies: tuple[str, ...] = ()
    options: PipOptions = field(default=PipOptions(), metadata=INLINE)

    def describe(self) -> str:
        groups = [listed(self.optional_dependencies)] if self.optional_dependencies else []
        return call_text("pip_install_from_pyproject", [quoted(self.pyproject_toml), *groups])

    def instructions(self) -> tuple[Instruction, ...]:
        install = PipInstallProject(
            pyproject=self.pyproject_toml,
            extras=self.optional_dependencies,
            options=self.options,
        )
        return (install,)
