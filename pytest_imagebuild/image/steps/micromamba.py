"""Debian with micromamba."""
# ruff: noqa: D102 - `Step` and `BaseInstruction` say what the methods of all give

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_imagebuild.errors import DefinitionError
from pytest_imagebuild.image.step import LayerSpec, Step
from pytest_imagebuild.image.wording import call_text, quoted

if TYPE_CHECKING:
    from pytest_imagebuild.image.builder import Builder

__all__ = ["MicromambaStep"]

_MICROMAMBA_SHELL = ("/usr/local/bin/_dockerfile_shell.sh",)


@dataclass(frozen=True, kw_only=True, slots=True)
class MicromambaStep(Step):
    """`Image.micromamba`. `python_version` None means the series of the Python that runs pytest."""

    python_version: str | None = None

    def describe(self) -> str:
        return call_text("micromamba", [quoted(self.python_version)] if self.python_version is not None else [])

    def layers(self, builder: Builder, local_python: str) -> tuple[LayerSpec, ...]:
        from pytest_imagebuild.image.steps.conda import MicromambaInstall  # noqa: PLC0415 - a description alone has no need of it
        from pytest_imagebuild.image.steps.python import offered_python  # noqa: PLC0415
        from pytest_imagebuild.image.steps.settings import SetCommand, SetShell  # noqa: PLC0415
        from pytest_imagebuild.image.steps.variables import SetEnv  # noqa: PLC0415

        version = offered_python(self, self.python_version, "micromamba", builder, local_python)
        if builder.micromamba_tag is None:
            message = f"micromamba: the {builder.version!r} Image builder has no image of micromamba."
            raise DefinitionError(message, where=self.where)
        # The shell comes in a layer of its own, because it runs the commands of the layers above alone.
        activation = (SetShell(argv=_MICROMAMBA_SHELL), SetEnv(variables=(("MAMBA_DOCKERFILE_ACTIVATE", "1"),)))
        python = MicromambaInstall(packages=(f"python={version}", "pip"), channels=("conda-forge",), root=True)
        layers = (
            LayerSpec(base=f"mambaorg/micromamba:{builder.micromamba_tag}"),
            LayerSpec(instructions=activation),
            LayerSpec(instructions=(python,)),
        )
        return (*layers, LayerSpec(instructions=(SetCommand(argv=builder.command),))) if builder.command else layers
