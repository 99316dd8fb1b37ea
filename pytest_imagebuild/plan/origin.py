"""Where a function comes from: its file, or the package that it is part of, and how a container imports it.

The reference (2.6): the file that defines it goes to `/root/<file>.py`, or the whole top-level package to
`/root/<package>`. What is installed here, or is of the standard library, is the image's to have.
"""

from __future__ import annotations

import sys
import sysconfig
import types
from dataclasses import dataclass
from pathlib import Path

from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.image.patterns import HIDDEN_FILES
from pytest_imagebuild.plan.context import read_dir, read_file
from pytest_imagebuild.plan.places import SOURCE_ROOT

__all__ = ["Origin", "origin_of"]

_INSTALLED = {"site-packages", "dist-packages"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """The file of a function.

    `package` is the name of its top-level package, empty for a single file; `folders` are those of that package, more
    than one for a namespace package, else just the folder of the file. `module` is the name that imports the file.
    """

    file: Path
    module: str
    package: str
    folders: tuple[Path, ...]
    installed: bool

    def place(self, path: str | None) -> str | None:
        """Return where a file lies in what is one's own: relative, with slashes. None for a file of others."""
        if path is None or self.installed:
            return None
        found = Path(path).absolute()
        if not self.package:
            return found.name if found == self.file else None
        for folder in self.folders:
            if found.is_relative_to(folder):
                return found.relative_to(folder.parent).as_posix()
        return None

    def find(self, module: str) -> Path | None:
        """Return the file of a module of the own package, loaded or not."""
        top, *rest = module.split(".")
        if not self.package or top != self.package:
            return self.file if module == self.module else None
        for folder in self.folders:
            stem = folder.joinpath(*rest)
            for candidate in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")):
                if candidate.is_file() and (rest or candidate.name == "__init__.py"):
                    return candidate
        return None

    def files(self) -> tuple[FileEntry, ...]:
        """Read what is put below `/root` for the call; nothing that begins with a dot, and no compiled files."""
        if self.installed:
            return ()
        if not self.package:
            return (read_file(self.file, f"{SOURCE_ROOT}/{self.file.name}"),)
        return tuple(
            entry
            for folder in self.folders
            for entry in read_dir(folder, f"{SOURCE_ROOT}/{self.package}", HIDDEN_FILES)
        )

    def places(self) -> dict[str, str]:
        """Map what lies below `/root` in the container to where it lies here, for tracebacks."""
        if self.installed:
            return {}
        if not self.package:
            return {f"{SOURCE_ROOT}/{self.file.name}": str(self.file)}
        return {f"{SOURCE_ROOT}/{self.package}/": f"{folder}/" for folder in reversed(self.folders)}


def origin_of(function: types.FunctionType) -> Origin:
    """Find the origin of a function, below its decorators. Its file need not be there."""
    file = Path(function.__code__.co_filename).absolute()
    module = function.__module__ if "." in function.__module__ else _module_by_folders(file, function.__module__)
    parts = module.split(".")
    top = _top_folder(file, parts) if len(parts) > 1 or file.name == "__init__.py" else None
    if top is None:
        return Origin(file=file, module=file.stem, package="", folders=(file.parent,), installed=_is_installed(file))
    portions = getattr(sys.modules.get(parts[0]), "__path__", None) or ()
    folders = dict.fromkeys([*(Path(portion).absolute() for portion in portions), top])
    return Origin(
        file=file,
        module=module,
        package=parts[0],
        folders=tuple(folder for folder in folders if folder.is_dir()),
        installed=_is_installed(file),
    )


def _module_by_folders(file: Path, name: str) -> str:
    """Return the name of a module as its folders give it, which were no part of it where it was loaded by its path."""
    parts = [] if file.name == "__init__.py" else [file.stem]
    folder = file.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts) if len(parts) > 1 else name


def _top_folder(file: Path, parts: list[str]) -> Path | None:
    """Return the folder of the top-level package, if the file lies where the name of its module says."""
    names = [*parts, "__init__.py"] if file.name == "__init__.py" else [*parts[:-1], f"{parts[-1]}.py"]
    if list(file.parts[-len(names) :]) != names:
        return None
    return file.parents[len(names) - 2]


def _is_installed(file: Path) -> bool:
    if _INSTALLED & set(file.parts):
        return True
    folders = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))
    return any(file.is_relative_to(folder) for folder in folders if folder)
