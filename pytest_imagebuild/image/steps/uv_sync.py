"""A local uv project."""
# ruff: noqa: D102 - `Step` and `BaseInstruction` say what the methods of all give

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_imagebuild.image.step import BaseInstruction, Step
from pytest_imagebuild.image.wording import call_text, listed, quoted

if TYPE_CHECKING:
    from pytest_imagebuild.image.builder import Builder
    from pytest_imagebuild.image.instructions import Instruction

__all__ = ["UvSync", "UvSyncStep"]


@dataclass(frozen=True, kw_only=True, slots=True)
class UvSync(BaseInstruction):
    """Install what a local uv project depends on into `/.uv/.venv`, but not the project itself.

    `project_dir` is the folder as the user gave it. `locked` says that it has a `uv.lock`, which is known once it is
    read. `uv_version` None means the one that the builder version pins.
    """

    project_dir: str
    groups: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    frozen: bool = True
    extra_options: str = ""
    uv_version: str | None = None
    locked: bool = False

    @property
    def is_open(self) -> bool:
        """Say whether uv has to look for versions."""
        return not (self.frozen and self.locked)

    @property
    def names_files(self) -> bool:
        return True

    def portable(self) -> UvSync:
        return replace(self, project_dir="")

    def options(self) -> str:
        """Give what is chosen of the project, as shell text."""
        chosen = [f"--group={shlex.quote(name)}" for name in self.groups]
        chosen += [f"--extra={shlex.quote(name)}" for name in self.extras]
        return " ".join([*chosen, *([self.extra_options] if self.extra_options else [])])

    def command(self) -> str:
        """Give the command that installs what the project's own lockfile pins."""
        parts = ["/.uv/uv sync --project=/.uv --no-install-workspace --compile-bytecode", self.options()]
        return " ".join([*filter(None, parts), *([] if self.is_open else ["--frozen"])])

    def lines(self, builder: Builder) -> tuple[str, ...]:
        """Give a `COPY` of uv and of each file of the project, and the `RUN`."""
        uv = self.uv_version or builder.uv_version
        return (
            f"COPY --from=ghcr.io/astral-sh/uv:{uv} /uv /.uv/uv",
            "COPY /.pyproject.toml /.uv/pyproject.toml",
            *(["COPY /.uv.lock /.uv/uv.lock"] if self.locked else []),
            f"RUN {self.command()}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class UvSyncStep(Step):
    """`Image.uv_sync`: a uv project by its local folder."""

    project_dir: str
    groups: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    frozen: bool = True
    extra_options: str = ""
    uv_version: str | None = None

    def describe(self) -> str:
        chosen = [f"groups={listed(self.groups)}"] if self.groups else []
        chosen += [f"extras={listed(self.extras)}"] if self.extras else []
        return call_text("uv_sync", [quoted(self.project_dir), *chosen])

    def instructions(self) -> tuple[Instruction, ...]:
        from pytest_imagebuild.image.steps.settings import PrependPath  # noqa: PLC0415 - a description alone has no need of it

        sync = UvSync(
            project_dir=self.project_dir,
            groups=self.groups,
            extras=self.extras,
            frozen=self.frozen,
            extra_options=self.extra_options,
            uv_version=self.uv_version,
        )
        return (sync, PrependPath(folder="/.uv/.venv/bin"))
