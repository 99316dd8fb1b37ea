"""Debian with Python."""
# ruff: noqa: D102 - `Step` and `BaseInstruction` say what the methods of all give

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_imagebuild.image.step import LayerSpec, Step
from pytest_imagebuild.image.wording import call_text, quoted

if TYPE_CHECKING:
    from pytest_imagebuild.image.builder import Builder
    from pytest_imagebuild.image.instructions import Instruction

__all__ = ["DebianSlimStep"]

_NOT_INTERACTIVE = "echo 'debconf debconf/frontend select Noninteractive' | debconf-set-selections"


@dataclass(frozen=True, kw_only=True, slots=True)
class DebianSlimStep(Step):
    """`Image.debian_slim`. `python_version` None means the series of the Python that runs pytest."""

    python_version: str | None = None

    @property
    def base_name(self) -> str:
        return "debian_slim" if self.python_version is None else f"py{self.python_version}"

    def describe(self) -> str:
        return call_text("debian_slim", [quoted(self.python_version)] if self.python_version is not None else [])

    def layers(self, builder: Builder, local_python: str) -> tuple[LayerSpec, ...]:
        from pytest_imagebuild.image.steps.apt import AptInstall  # noqa: PLC0415 - a description alone has no need of it
        from pytest_imagebuild.image.steps.commands import Run  # noqa: PLC0415
        from pytest_imagebuild.image.steps.pip import PipInstall  # noqa: PLC0415
        from pytest_imagebuild.image.steps.python import offered_python  # noqa: PLC0415
        from pytest_imagebuild.image.steps.settings import SetCommand  # noqa: PLC0415

        version = offered_python(self, self.python_version, "debian_slim", builder, local_python)
        settings: tuple[Instruction, ...] = (Run(command=_NOT_INTERACTIVE),)
        if builder.command:
            settings += (SetCommand(argv=builder.command),)
        version = builder.python_versions.get(version, version)
        tools = PipInstall(packages=builder.pip_tools, upgrade=True, executable="pip")
        return (
            LayerSpec(base=f"python:{version}-slim-{builder.debian_codename}"),
            LayerSpec(instructions=(AptInstall(packages=builder.apt_tools),)),
            LayerSpec(instructions=(tools,)),
            LayerSpec(instructions=settings),
        )
