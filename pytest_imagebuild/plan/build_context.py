"""The build context of a Dockerfile: the files that its sources name, less those that are ignored.

Rules of the reference (2.4), and Docker's where that breaks: patterns are Go's `filepath.Match`, a leading slash is the
root of the context, nothing outside of it is taken. Folders are kept, also empty ones, all with the mode 755.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

from pytest_imagebuild.dockerfile import DockerfileError
from pytest_imagebuild.dockerfile.glob import PatternError, has_wildcard, matches
from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.errors import LocalFileError
from pytest_imagebuild.image.dockerfile_lines import BuildContext
from pytest_imagebuild.image.patterns import AutoDockerignore, FilePatternMatcher
from pytest_imagebuild.plan.context import read_file
from pytest_imagebuild.plan.wanted import Wanted

__all__ = ["Selection", "dockerignore"]

FOLDER_MODE = 0o755


class Selection:
    """Files of one context, gathered source by source. Paths begin with a slash, which is the root of the context."""

    def __init__(self, context: BuildContext) -> None:
        self._root = Path(context.directory or ".").expanduser().absolute()
        self._ignore = _ignore(context, self._root)
        self._found: dict[str, Path | None] = {}
        self._given = {"/" + path.lstrip("/"): local for path, local in context.files}

    def add(self, want: Wanted) -> None:
        """Take what a source names. Raises DockerfileError for one that is outside, or not there."""
        source = self._inside(want)
        given = [path for path in self._given if _names(source, path)]
        found = list(self._matching(source, want))
        for path in found:
            self._take(path)
        if not given and not found and not has_wildcard(source):
            raise DockerfileError(want.line, self._missing(source, want))

    def entries(self) -> tuple[FileEntry, ...]:
        """Return what was taken, sorted; a folder's path ends with a slash. Raises LocalFileError."""
        entries = {path: self._entry(path, real) for path, real in self._found.items()}
        for path, local in self._given.items():
            file = Path(local).expanduser().absolute()
            if not file.is_file():
                raise LocalFileError(f"the file {local} of context_files does not exist (looked at {file}).")
            entries[path] = read_file(file, path)
        return tuple(entry for _, entry in sorted(entries.items()))

    def _entry(self, path: str, real: Path | None) -> FileEntry:
        if real is None:
            return FileEntry(path=f"{path}/", mode=FOLDER_MODE, data=b"")
        try:
            return read_file(real, path)
        except OSError as error:
            raise LocalFileError(f"{real} cannot be read: {error}.") from error

    def _inside(self, want: Wanted) -> str:
        """Return a source relative to the root, without dots."""
        source = posixpath.normpath(want.source.lstrip("/") or ".")
        if source == ".." or source.startswith("../"):
            problem = f"{want.keyword}: {want.source} is outside the build context directory {self._root}"
            raise DockerfileError(want.line, problem)
        return source

    def _missing(self, source: str, want: Wanted) -> str:
        asked = f"{want.keyword}: {want.source}"
        if os.path.lexists(self._root / source):
            if not self._is_inside(self._root / source):
                return f"{asked} is a link to a place outside the build context directory {self._root}"
            return f"{asked} is left out of the build context by ignore=, or by a .dockerignore file"
        if not self._root.is_dir():
            return f"{asked} is asked for, and the build context directory {self._root} does not exist"
        return f"{asked} does not exist in the build context directory {self._root}"

    def _matching(self, source: str, want: Wanted) -> Iterator[PurePath]:
        """Return the paths that a source names and that are not ignored."""
        try:
            candidates = [PurePath()]
            for part in PurePath(source).parts:
                candidates = [below for path in candidates for below in self._below(path, part)]
        except PatternError as error:
            raise DockerfileError(want.line, f"{want.keyword}: {error}") from error
        for path in candidates:
            real = self._root / path
            if not self._is_inside(real) or not (real.is_dir() or real.is_file()):
                continue
            # A folder may be ignored but for some of what is in it.
            if not self._ignore(Path(path)) or (real.is_dir() and any(self._walk(path))):
                yield path

    def _below(self, path: PurePath, part: str) -> list[PurePath]:
        folder = self._root / path
        if not has_wildcard(part):
            return [path / part] if os.path.lexists(folder / part) else []
        if not folder.is_dir():
            return []
        return [path / name for name in sorted(os.listdir(folder)) if matches(part, name)]  # noqa: PTH208 - names alone

    def _take(self, path: PurePath) -> None:
        real = self._root / path
        if not real.is_dir():
            self._keep(path, real)
            return
        self._keep(path, None)
        for below, is_folder in self._walk(path):
            self._keep(below, None if is_folder else self._root / below)

    def _keep(self, path: PurePath, real: Path | None) -> None:
        if path.parts:
            self._found["/" + path.as_posix()] = real

    def _walk(self, folder: PurePath) -> Iterator[tuple[PurePath, bool]]:
        """Return what is below a folder and not ignored, and whether it is a folder. Links to folders are left out."""
        prunes = getattr(self._ignore, "prunes", lambda _: False)
        with os.scandir(self._root / folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
        for entry in ordered:
            path = folder / entry.name
            if entry.is_dir(follow_symlinks=False):
                if prunes(path):
                    continue
                below = list(self._walk(path))
                if below or not self._ignore(Path(path)):
                    yield path, True
                yield from below
            elif entry.is_file() and not self._ignore(Path(path)) and self._is_inside(Path(entry.path)):
                yield path, False

    def _is_inside(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self._root.resolve())


def _names(source: str, path: str) -> bool:
    """Say whether a source names a path of the context, or a folder above it."""
    parts = PurePath(source).parts
    given = PurePath(path.lstrip("/")).parts
    return len(parts) <= len(given) and all(
        matches(part, name) if has_wildcard(part) else part == name for part, name in zip(parts, given, strict=False)
    )


def _ignore(context: BuildContext, root: Path) -> Callable[[Path], bool]:
    if not isinstance(context.ignore, AutoDockerignore):
        return context.ignore
    file = dockerignore(context, root)
    return FilePatternMatcher() if file is None else _read(file)


def dockerignore(context: BuildContext, root: Path) -> Path | None:
    """Return the ignore file that counts: the Dockerfile's own, else the one beside it, else that of the context.

    Each counts only where it lies inside the context.
    """
    candidates = [root / ".dockerignore"]
    if context.dockerfile is not None:
        dockerfile = Path(context.dockerfile).expanduser().absolute()
        own = dockerfile.with_name(f"{dockerfile.name}.dockerignore")
        candidates = [own, dockerfile.with_name(".dockerignore"), *candidates]
    inside = root.resolve()
    return next((path for path in candidates if path.is_file() and path.resolve().is_relative_to(inside)), None)


def _read(file: Path) -> FilePatternMatcher:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
        return FilePatternMatcher(*(line for line in lines if not line.startswith("#")))
    except (OSError, ValueError) as error:
        raise LocalFileError(f"{file} cannot be used: {error}.") from error
