"""A local Poetry project."""
# ruff: noqa: D102 - `Step` and `BaseInstruction` say what the methods of all give

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_imagebuild.image.step import BaseInstruction, LayerSpec, Step
from pytest_imagebuild.image.wording import call_text, listed, quoted

if TYPE_CHECKING:
    from pytest_imagebuild.image.builder import Builder

__all__ = ["PoetryInstall", "PoetryInstallStep"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PoetryInstall(BaseInstruction):
    """Install what a local Poetry project depends on into the image's Python, but not the project itself.

    Paths are as the user gave them; without `lockfile`, the `poetry.lock` beside the project's file is taken.
    `old_installer` switches Poetry's installer of before 1.1 on, which is gone since 2.0. `indexes` are the addresses
    of the package indexes that the project names, which are known once it is read.
    """

    pyproject: str
    lockfile: str | None = None
    ignore_lockfile: bool = False
    with_: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    old_installer: bool = False
    indexes: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        return self.ignore_lockfile

    @property
    def names_files(self) -> bool:
        return True

    def portable(self) -> PoetryInstall:
        return replace(self, pyproject="", lockfile=None)

    def options(self) -> str:
        """Give what is chosen of the project, as shell text."""
        groups = {"--with": self.with_, "--without": self.without, "--only": self.only}
        return " ".join(f"{flag} {shlex.quote(','.join(names))}" for flag, names in groups.items() if names)

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give a `COPY` of each file of the project, and the `RUN`."""
        chosen = f" {self.options()}" if self.options() else ""
        return (
            *(["RUN poetry config experimental.new-installer false"] if self.old_installer else []),
            *([] if self.ignore_lockfile else ["COPY /.poetry.lock /tmp/poetry/poetry.lock"]),
            "COPY /.pyproject.toml /tmp/poetry/pyproject.toml",
            "RUN cd /tmp/poetry && \\ ",
            "  poetry config virtualenvs.create false && \\ ",
            f"  poetry install --no-root{chosen} --compile",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PoetryInstallStep(Step):
    """`Image.poetry_install_from_file`: a Poetry project by its files.

    `poetry_version` is "latest", a version, or None for the Poetry that the image has.
    """

    pyproject: str
    lockfile: str | None = None
    ignore_lockfile: bool = False
    with_: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    poetry_version: str | None = "latest"
    old_installer: bool = False

    def describe(self) -> str:
        groups = {"with_": self.with_, "without": self.without, "only": self.only}
        chosen = [f"{name}={listed(names)}" for name, names in groups.items() if names]
        return call_text("poetry_install_from_file", [quoted(self.pyproject), *chosen])

    def layers(self, builder: Builder, local_python: str) -> tuple[LayerSpec, ...]:  # noqa: ARG002 - the same for all
        install = PoetryInstall(
            pyproject=self.pyproject,
            lockfile=self.lockfile,
            ignore_lockfile=self.ignore_lockfile,
            with_=self.with_,
            without=self.without,
            only=self.only,
            old_installer=self.old_installer,
        )
        project = LayerSpec(instructions=(install,))
        if self.poetry_version is None:
            return (project,)
        from pytest_imagebuild.image.steps.pip import PipInstall  # noqa: PLC0415 - a description alone has no need of it

        version = "" if self.poetry_version == "latest" else f"=={self.poetry_version}"
        return (LayerSpec(instructions=(PipInstall(packages=(f"poetry{version}",)),)), project)
