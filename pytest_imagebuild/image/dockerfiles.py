"""Calls that take Dockerfile lines: `from_dockerfile` and `dockerfile_commands`.

How a file is split into layers is that of builder version 2026.10 (section 1.1 of the reference).
"""
# ruff: noqa: D102 - `Step` says what the methods of all steps give

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath

from pytest_imagebuild.dockerfile import DockerfileError, From, parse
from pytest_imagebuild.dockerfile.lines import directives_of
from pytest_imagebuild.errors import DefinitionError
from pytest_imagebuild.image.builder import Builder
from pytest_imagebuild.image.dockerfile_lines import BuildContext, DockerfileLines
from pytest_imagebuild.image.secret import RegistrySecret
from pytest_imagebuild.image.step import LayerSpec, Step
from pytest_imagebuild.image.steps.python import standalone_python
from pytest_imagebuild.image.wording import call_text, quoted

__all__ = ["DockerfileCommandsStep", "FromDockerfileStep"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FromDockerfileStep(Step):
    """`Image.from_dockerfile`. `text` is what the file holds, once it was read. `login` enters no key."""

    path: str
    context: BuildContext
    build_args: tuple[tuple[str, str], ...] = ()
    add_python: str | None = None
    login: RegistrySecret | None = field(default=None, metadata={"presentation": True})
    text: str | None = field(default=None, compare=False, repr=False, metadata={"presentation": True})

    @property
    def is_file(self) -> bool:
        return True

    @property
    def base_name(self) -> str:
        # A path may be that of this machine from its root on, and is no name for an image then.
        return "-".join(PurePath(self.path.lstrip("./~")).parts[-2:])

    def describe(self) -> str:
        return call_text("from_dockerfile", [quoted(self.path)])

    def layers(self, builder: Builder, local_python: str) -> tuple[LayerSpec, ...]:  # noqa: ARG002 - the file says all
        # As the reference does, before anything of the file.
        python = standalone_python(self.add_python, builder, self.where) if self.add_python is not None else ()
        return (*self._layers(), *([LayerSpec(instructions=python)] if python else []))

    def _layers(self) -> tuple[LayerSpec, ...]:
        text = self._read()
        first = _simple_from(text)
        if first is None and self.login is not None:
            message = (
                "from_dockerfile: registry_secret= is for a Dockerfile that begins with its only FROM line, and "
                f"{self.path} does not. Log in with `docker login` instead, which every FROM uses."
            )
            raise DefinitionError(message, where=self.where)
        if first is None:
            whole = DockerfileLines(text=text, on_base=False, context=self.context, build_args=self.build_args)
            return (LayerSpec(dockerfile=whole),)
        base = LayerSpec(base=first.image, login=self.login)
        rest = text.split("\n")[first.end :]
        if all(not line.strip() or line.lstrip().startswith("#") for line in rest):
            return (base,)
        lines = DockerfileLines(
            text="\n".join(rest),
            on_base=True,
            context=self.context,
            build_args=self.build_args,
            skipped=first.end,
        )
        return (base, LayerSpec(dockerfile=lines))

    def lines(self, builder: Builder, local_python: str) -> tuple[str, ...]:  # noqa: ARG002 - the file says all
        return tuple(self._read().split("\n"))

    def _read(self) -> str:
        if self.text is None:
            raise DefinitionError(f"from_dockerfile: {self.path} was not read yet", where=self.where)
        return self.text


@dataclass(frozen=True, kw_only=True, slots=True)
class DockerfileCommandsStep(Step):
    """`Image.dockerfile_commands`: lines that make one layer on the one before."""

    commands: tuple[str, ...]
    context: BuildContext
    build_args: tuple[tuple[str, str], ...] = ()

    def describe(self) -> str:
        return call_text("dockerfile_commands", list(map(quoted, self.commands)))

    def layers(self, builder: Builder, local_python: str) -> tuple[LayerSpec, ...]:  # noqa: ARG002 - lines are lines
        text = "\n".join(self.commands)
        lines = DockerfileLines(text=text, on_base=True, context=self.context, build_args=self.build_args)
        return (LayerSpec(dockerfile=lines),)


def _simple_from(text: str) -> From | None:
    """Return the `FROM` of a file that is split into two layers; None for one that is a layer of its own.

    Also left whole is what a base layer alone cannot say: flags, variables, and a file that begins with nothing.
    """
    try:
        instructions, _ = parse(text)
    except DockerfileError:
        return None  # who plans it says what is wrong
    first = instructions[0] if instructions else None
    if not isinstance(first, From) or first.line != first.end or directives_of(text):
        return None
    several = any(isinstance(item, From) for item in instructions[1:])
    if several or first.name or first.platform or "$" in first.image or first.image == "scratch":
        return None
    return first
