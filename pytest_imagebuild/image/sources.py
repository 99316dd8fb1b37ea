"""Local files that an image takes in: named here, read at build or at the start of a container."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_imagebuild.image.patterns import FilePatternMatcher
from pytest_imagebuild.image.wording import call_text, quoted

if TYPE_CHECKING:
    from pytest_imagebuild.errors import SourceLocation

__all__ = ["Ignore", "LocalDir", "LocalFile", "LocalPythonSource", "LocalSource"]

Ignore = FilePatternMatcher | Callable[[Path], bool]
"""Takes a path relative to the added folder, gives True for "leave it out"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalFile:
    """One file. `local_path` is as the user wrote it (relative, or with `~`); `remote_path` is absolute and whole."""

    local_path: str
    remote_path: str
    where: SourceLocation | None = field(default=None, compare=False, metadata={"presentation": True})

    def target(self) -> tuple[str, ...]:
        """Give what says where it goes, the same on every machine."""
        return (self.remote_path,)

    def describe(self, *, copy: bool = False) -> str:
        """Give the chain call in the user's own words."""
        return call_text("add_local_file", [quoted(self.local_path), quoted(self.remote_path), *_copy(copy=copy)])


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalDir:
    """The contents of a folder, below `remote_path`. `local_path` is as the user wrote it."""

    local_path: str
    remote_path: str
    ignore: Ignore = field(metadata={"opaque_unless": FilePatternMatcher})
    where: SourceLocation | None = field(default=None, compare=False, metadata={"presentation": True})

    def target(self) -> tuple[str, ...]:
        """Give what says where it goes, the same on every machine."""
        return (self.remote_path,)

    def describe(self, *, copy: bool = False) -> str:
        """Give the chain call in the user's own words."""
        return call_text("add_local_dir", [quoted(self.local_path), quoted(self.remote_path), *_copy(copy=copy)])


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalPythonSource:
    """Importable modules or packages of the host, below `/root`, by their dotted names."""

    modules: tuple[str, ...]
    ignore: Ignore = field(metadata={"opaque_unless": FilePatternMatcher})
    where: SourceLocation | None = field(default=None, compare=False, metadata={"presentation": True})

    def target(self) -> tuple[str, ...]:
        """Give what says where it goes, the same on every machine."""
        return self.modules

    def describe(self, *, copy: bool = False) -> str:
        """Give the chain call in the user's own words."""
        return call_text("add_local_python_source", [*map(quoted, self.modules), *_copy(copy=copy)])


LocalSource = LocalFile | LocalDir | LocalPythonSource


def _copy(*, copy: bool) -> list[str]:
    return ["copy=True"] if copy else []
