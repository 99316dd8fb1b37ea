"""Layers of Dockerfile lines: the file and its build context are read, and its references found."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_imagebuild.dockerfile import Copy, Dockerfile, DockerfileError, Instruction, Run, read
from pytest_imagebuild.dockerfile.scope import platform_arguments
from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.protocol import platform_of
from pytest_imagebuild.errors import DefinitionError, LocalFileError, SourceLocation
from pytest_imagebuild.image.canonical import digest
from pytest_imagebuild.image.dockerfile_lines import DockerfileLines
from pytest_imagebuild.image.dockerfiles import FromDockerfileStep
from pytest_imagebuild.image.step import Step
from pytest_imagebuild.plan.build_context import Selection
from pytest_imagebuild.plan.wanted import wanted

__all__ = ["PlannedDockerfile", "loaded", "plan_dockerfile", "refused"]

PARENT = "FROM base\n"
"""The first line of lines that stand on the layer before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedDockerfile:
    """Dockerfile lines to be executed.

    `text` is a whole Dockerfile; with `on_parent`, its first `FROM` stands for the layer below. `references` are the
    images from outside that it needs. `file` is the user's file, empty where the lines stand in the chain call, and
    `skipped` is to be added to a line of `text` to have that of the file.
    """

    text: str
    on_parent: bool
    build_args: Mapping[str, str]
    references: tuple[str, ...]
    identity: str
    file: str
    skipped: int

    def place(self, line: int) -> str:
        """Return where the user finds a line of `text`."""
        number = line + self.skipped
        return f"{self.file}:{number}" if self.file else f"line {number} of its commands"

    def command(self, line: int) -> str:
        """Return the instruction at a line as the user wrote it, on one line."""
        found = [item for item in self._instructions() if item.line <= line <= item.end]
        return found[0].source if found else self.text.split("\n")[line - 1]

    def _instructions(self) -> Iterator[Instruction]:
        for stage in self.read().stages:
            yield stage.begin
            yield from stage.instructions

    def read(self) -> Dockerfile:
        """Return it parsed, for the platform of this machine."""
        return _read(self.text, self.build_args, on_parent=self.on_parent)


def loaded(step: Step) -> Step:
    """Return the step with what its Dockerfile holds; any other step as it is. Raises LocalFileError."""
    if not isinstance(step, FromDockerfileStep):
        return step
    path = Path(step.path).expanduser().absolute()
    try:
        return replace(step, text=path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise LocalFileError(
            f"from_dockerfile: {step.path} does not exist (looked at {path}).", where=step.where
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise LocalFileError(f"from_dockerfile: {path} cannot be read: {error}.", where=step.where) from error


def plan_dockerfile(lines: DockerfileLines, step: Step) -> tuple[PlannedDockerfile, tuple[FileEntry, ...]]:
    """Return a layer of Dockerfile lines, and its build context. Raises DefinitionError at the user's line."""
    text = PARENT + lines.text if lines.on_base else lines.text
    planned = PlannedDockerfile(
        text=text,
        on_parent=lines.on_base,
        build_args=dict(lines.build_args),
        references=(),
        identity="",
        file=step.path if isinstance(step, FromDockerfileStep) else "",
        skipped=lines.skipped - (1 if lines.on_base else 0),
    )
    with _at_the_line(planned, step):
        dockerfile = planned.read()
        selection = Selection(lines.context)
        for need in wanted(dockerfile):
            selection.add(need)
        entries = selection.entries()
    planned = replace(planned, references=dockerfile.references, identity=_identity(dockerfile, lines))
    return planned, entries


@contextmanager
def _at_the_line(planned: PlannedDockerfile, step: Step) -> Iterator[None]:
    """Say of a fault in which line of the Dockerfile it is, and which chain call wanted it."""
    try:
        yield
    except DockerfileError as error:
        raise refused(planned, error, step.describe(), step.where) from error
    except LocalFileError as error:
        raise LocalFileError(f"{step.describe()}: {error}", where=step.where) from error


def refused(
    planned: PlannedDockerfile, error: DockerfileError, title: str, where: SourceLocation | None
) -> DefinitionError:
    """Return the error of a Dockerfile that is wrong, or that asks for what the engine cannot do."""
    return DefinitionError(f"{title}: {planned.place(error.line)}: {error.problem}", where=where)


def _read(text: str, build_args: Mapping[str, str], *, on_parent: bool) -> Dockerfile:
    # The engine reads it again for its own platform.
    return read(text, build_args=build_args, platform=platform_of("linux", platform.machine()), on_parent=on_parent)


def _identity(dockerfile: Dockerfile, lines: DockerfileLines) -> str:
    """Return the digest of what the lines say: comments and the form of continuations are left out."""
    machines = platform_arguments("")  # the platform enters the key by itself
    outer = {name: value for name, value in dockerfile.outer.items() if name not in machines}
    said = tuple(
        _said((stage.begin, *stage.instructions)) for stage in dockerfile.stages if stage.number in dockerfile.needed
    )
    return digest({"lines": said, "outer": outer, "build_args": tuple(lines.build_args), "escape": dockerfile.escape})


def _said(instructions: Iterable[Instruction]) -> tuple[tuple[str, ...], ...]:
    return tuple((item.source, *_documents(item)) for item in instructions)


def _documents(item: Instruction) -> tuple[str, ...]:
    return tuple(document.content for document in item.heredocs) if isinstance(item, (Run, Copy)) else ()
