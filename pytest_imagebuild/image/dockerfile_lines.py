"""Dockerfile lines as a layer, and the build context that they take files from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_imagebuild.image.patterns import AUTO_DOCKERIGNORE, AutoDockerignore, FilePatternMatcher

if TYPE_CHECKING:
    from pytest_imagebuild.image.builder import Builder

__all__ = ["BuildContext", "ContextIgnore", "DockerfileLines"]


ContextIgnore = AutoDockerignore | FilePatternMatcher | Callable[[Path], bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildContext:
    """Where the files of `COPY` and `ADD` come from. Paths are as the user wrote them; all of it is read at build.

    `directory` None is the current folder, `dockerfile` the file whose ignore files count. `files` are pairs of a path
    in the context and the local file that is to be there.
    """

    directory: str | None = None
    dockerfile: str | None = None
    ignore: ContextIgnore = field(
        default=AUTO_DOCKERIGNORE, metadata={"opaque_unless": (FilePatternMatcher, AutoDockerignore)}
    )
    files: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class DockerfileLines:
    """A layer that is made by Dockerfile lines.

    With `on_base`, they stand on the layer before, else they begin with a `FROM`. `skipped` is how many lines of the
    user's file stand before the first of `text`.
    """

    text: str
    on_base: bool
    context: BuildContext = BuildContext()
    build_args: tuple[tuple[str, str], ...] = ()
    skipped: int = field(default=0, compare=False, metadata={"presentation": True})

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give the lines verbatim, without a `FROM` of the layer before."""
        return tuple(self.text.split("\n"))
