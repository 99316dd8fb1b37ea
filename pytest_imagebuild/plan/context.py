"""Build contexts: the local files that a chain names, read into `FileEntry` values.

Rules of the reference (2.2, 2.3): only regular files; symlinked files are followed; symlinked folders are not
descended; mode bits are kept, owners and times are not. Relative paths resolve against the current folder.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath

from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.errors import LocalFileError, ModuleNotMountable, SourceLocation
from pytest_imagebuild.image.patterns import FilePatternMatcher
from pytest_imagebuild.image.sources import LocalDir, LocalFile, LocalPythonSource, LocalSource
from pytest_imagebuild.plan.places import SOURCE_ROOT

__all__ = ["check_unchanged", "read_dir", "read_file", "read_source"]

_BINARY = ("so", "S", "s", "asm")


def read_source(source: LocalSource) -> tuple[FileEntry, ...]:
    """Read a local source. Raises LocalFileError or ModuleNotMountable at the user's line."""
    match source:
        case LocalFile():
            return (_read_local_file(source),)
        case LocalDir():
            _check_ignore("add_local_dir", source)
            return tuple(read_dir(_existing_dir(source), source.remote_path, source.ignore))
        case LocalPythonSource():
            _check_ignore("add_local_python_source", source)
            return tuple(entry for module in source.modules for entry in _read_module(module, source))


def read_file(path: Path, target: str) -> FileEntry:
    """Read one file as the entry `target`, with its mode and digest."""
    data = path.read_bytes()
    mode = stat.S_IMODE(path.stat().st_mode)
    return FileEntry(path=target, mode=mode, source=path, data=None, sha256=hashlib.sha256(data).hexdigest())


def check_unchanged(files: Iterable[FileEntry], where: SourceLocation | None) -> None:
    """Raise LocalFileError for a file that is not what it was when it was read: the layer would not fit its key."""
    for entry in files:
        if entry.source is None:
            continue
        try:
            same = hashlib.sha256(entry.source.read_bytes()).hexdigest() == entry.sha256
        except OSError as error:
            raise LocalFileError(f"{entry.source} cannot be read any more: {error.strerror}.", where=where) from error
        if not same:
            message = f"{entry.source} was modified during the build, which reads it once to find its layer. Run again."
            raise LocalFileError(message, where=where)


def _check_ignore(method: str, source: LocalDir | LocalPythonSource) -> None:
    """Let a matcher read its file, if it has one."""
    if not isinstance(source.ignore, FilePatternMatcher):
        return
    try:
        source.ignore("a")
    except OSError as error:
        raise LocalFileError(
            f"{method}: the ignore file {source.ignore.file} cannot be read: {error.strerror}.", where=source.where
        ) from error
    except ValueError as error:
        raise LocalFileError(
            f"{method}: the ignore file {source.ignore.file} holds what is no pattern: {error}.", where=source.where
        ) from error


def _read_local_file(source: LocalFile) -> FileEntry:
    path = Path(source.local_path).expanduser().absolute()
    if path.is_dir():
        raise LocalFileError(
            f"add_local_file: {source.local_path} is a folder. Use add_local_dir for it.", where=source.where
        )
    if not path.exists():
        raise LocalFileError(
            f"add_local_file: local file {source.local_path} does not exist (looked at {path}).", where=source.where
        )
    return read_file(path, source.remote_path)


def _existing_dir(source: LocalDir) -> Path:
    path = Path(source.local_path).expanduser().absolute()
    if not path.exists():
        raise LocalFileError(
            f"add_local_dir: local folder {source.local_path} does not exist (looked at {path}).", where=source.where
        )
    if not path.is_dir():
        raise LocalFileError(
            f"add_local_dir: {source.local_path} is not a folder. Use add_local_file for it.", where=source.where
        )
    return path


Ignore = FilePatternMatcher | Callable[[Path], bool]


def read_dir(root: Path, target: str, ignore: Ignore) -> Iterator[FileEntry]:
    """Read the files of a folder, each as the entry of the same path below `target`."""
    prefix = target.rstrip("/")
    for relative in _walk(root, PurePath(), ignore):
        yield read_file(root / relative, f"{prefix}/{relative.as_posix()}")


def _walk(root: Path, below: PurePath, ignore: Ignore) -> Iterator[PurePath]:
    prunes = getattr(ignore, "prunes", lambda _: False)
    with os.scandir(root / below) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        relative = below / entry.name
        if entry.is_dir(follow_symlinks=False):
            if not prunes(relative):
                yield from _walk(root, relative, ignore)
        elif entry.is_file() and not ignore(Path(relative)):
            yield relative


def _read_module(module: str, source: LocalPythonSource) -> Iterator[FileEntry]:
    _refuse_binary(module, source.where)
    spec = _find_spec(module, source.where)
    folder = "/".join([SOURCE_ROOT, *module.split(".")])
    if spec.submodule_search_locations:
        for location in spec.submodule_search_locations:
            if Path(location).is_dir():
                yield from read_dir(Path(location), folder, source.ignore)
    elif spec.origin and Path(spec.origin).is_file():
        yield read_file(Path(spec.origin), f"{folder.rpartition('/')[0]}/{Path(spec.origin).name}")
    else:
        raise ModuleNotMountable(
            f"add_local_python_source: module {module!r} has no mountable paths: it is built in.", where=source.where
        )


def _find_spec(module: str, where: SourceLocation | None) -> importlib.machinery.ModuleSpec:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise ModuleNotMountable(f"add_local_python_source: module {module!r}: {error}", where=where) from error
    if spec is None:
        raise ModuleNotMountable(
            f"add_local_python_source: module {module!r} has no spec - might not be installed? It must be importable "
            "where pytest runs: install the project, or add its folder to the ini key pythonpath.",
            where=where,
        )
    return spec


def _refuse_binary(module: str, where: SourceLocation | None) -> None:
    try:
        shipped = importlib.metadata.files(module) or ()
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return  # no distribution; or no name at all, which finding the module refuses
    if any(str(path).rpartition(".")[2] in _BINARY for path in shipped):
        raise ModuleNotMountable(
            f"add_local_python_source: module {module!r} can't be mounted because it contains binary file(s). "
            "Install it in the image instead, with pip_install or uv_pip_install.",
            where=where,
        )
