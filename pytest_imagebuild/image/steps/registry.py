"""An image of a registry."""
# ruff: noqa: D102 - `Step` and `BaseInstruction` say what the methods of all give

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_imagebuild.image.step import LayerSpec, Step
from pytest_imagebuild.image.wording import call_text, quoted

if TYPE_CHECKING:
    from pytest_imagebuild.image.builder import Builder
    from pytest_imagebuild.image.secret import RegistrySecret

__all__ = ["FromRegistryStep"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FromRegistryStep(Step):
    """`Image.from_registry` and the two methods for one service each: a reference, and Dockerfile lines on top of it.

    `login` enters no key: the digest says what the image is, whoever may have it.
    """

    tag: str
    setup: tuple[str, ...] = ()
    add_python: str | None = None
    method: str = "from_registry"
    login: RegistrySecret | None = field(default=None, metadata={"presentation": True})

    @property
    def base_name(self) -> str:
        return self.tag

    def describe(self) -> str:
        python = [f"add_python={quoted(self.add_python)}"] if self.add_python is not None else []
        return call_text(self.method, [quoted(self.tag), *python])

    def layers(self, builder: Builder, local_python: str) -> tuple[LayerSpec, ...]:  # noqa: ARG002 - none is left open
        base = LayerSpec(base=self.tag, login=self.login)
        layers: tuple[LayerSpec, ...] = (base,)
        if self.add_python is not None:
            from pytest_imagebuild.image.steps.python import standalone_python  # noqa: PLC0415 - few images need it

            layers += (LayerSpec(instructions=standalone_python(self.add_python, builder, self.where)),)
        if self.setup:
            from pytest_imagebuild.image.dockerfile_lines import DockerfileLines  # noqa: PLC0415 - few images need it

            layers += (LayerSpec(dockerfile=DockerfileLines(text="\n".join(self.setup), on_base=True)),)
        return layers
