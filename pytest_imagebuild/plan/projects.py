"""Local files that say what to install: requirement files, spec files, and the projects of pip, uv and Poetry."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.errors import DefinitionError, LocalFileError, SourceLocation
from pytest_imagebuild.image.instructions import Instruction
from pytest_imagebuild.image.steps.conda import MicromambaInstall
from pytest_imagebuild.image.steps.pip import REQUIREMENTS, PipInstall
from pytest_imagebuild.image.steps.poetry import PoetryInstall
from pytest_imagebuild.image.steps.private_repos import PrivateRepositories
from pytest_imagebuild.image.steps.pyproject import PipInstallProject
from pytest_imagebuild.image.steps.uv_pip import UvPipInstall
from pytest_imagebuild.image.steps.uv_sync import UvSync
from pytest_imagebuild.plan.conda import spec_file_packages
from pytest_imagebuild.plan.context import read_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["read_instruction"]

_POETRY = "/tmp/poetry"  # noqa: S108 - a path inside a container


def read_instruction(
    instruction: Instruction, where: SourceLocation | None
) -> tuple[Instruction, tuple[FileEntry, ...]]:
    """Return an instruction once its local files are read, and these files as its commands see them.

    Raises LocalFileError for a file that is missing, DefinitionError for one that does not say what it should.
    """
    match instruction:
        case PipInstall() | UvPipInstall():
            named = zip(instruction.requirements, instruction.remote_requirements(), strict=True)
            method = "uv_pip_install" if isinstance(instruction, UvPipInstall) else "pip_install_from_requirements"
            wanted = ((f"{method}: requirements file", path, target) for path, target in named)
            return instruction, tuple(_entry(what, path, target, where) for what, path, target in wanted)
        case PrivateRepositories():
            text = instruction.requirements().encode()
            entry = FileEntry(path=REQUIREMENTS, mode=0o644, data=text, sha256=hashlib.sha256(text).hexdigest())
            return instruction.install(), (entry,)
        case PipInstallProject():
            return instruction.of(_dependencies(instruction, where)), ()
        case UvSync() | PoetryInstall() | MicromambaInstall():
            return _project(instruction, where)
        case _:
            return instruction, ()


def _project(
    instruction: UvSync | PoetryInstall | MicromambaInstall, where: SourceLocation | None
) -> tuple[Instruction, tuple[FileEntry, ...]]:
    match instruction:
        case UvSync():
            return _uv_project(instruction, where)
        case PoetryInstall():
            return _poetry_project(instruction, where)
        case MicromambaInstall():
            return _spec_file(instruction, where)


def _entry(what: str, path: str | Path, target: str, where: SourceLocation | None) -> FileEntry:
    found = Path(path).expanduser().absolute()
    if not found.is_file():
        raise LocalFileError(f"{what} {found} does not exist.", where=where)
    # Its mode means nothing and differs with the umask of a checkout, so it must not enter the key.
    return replace(read_file(found, target), mode=0o644)


def _uv_project(sync: UvSync, where: SourceLocation | None) -> tuple[UvSync, tuple[FileEntry, ...]]:
    folder = Path(sync.project_dir).expanduser().absolute()
    if not (folder / "pyproject.toml").is_file():
        raise LocalFileError(
            f"uv_sync: Expected {folder}/pyproject.toml to exist. Give the project's folder as uv_project_dir.",
            where=where,
        )
    project = _toml("uv_sync", folder / "pyproject.toml", where)
    if "workspace" in _table(_table(project, "tool"), "uv"):
        raise DefinitionError(
            f"uv_sync: uv workspaces are not supported, and {folder}/pyproject.toml has [tool.uv.workspace]. Name the "
            "packages with uv_pip_install, or export them: `uv export --format requirements.txt`.",
            where=where,
        )
    files = [_entry("uv_sync: the project file", folder / "pyproject.toml", "/.uv/pyproject.toml", where)]
    locked = (folder / "uv.lock").is_file()
    if locked:
        files.append(_entry("uv_sync: the lockfile", folder / "uv.lock", "/.uv/uv.lock", where))
    return replace(sync, locked=locked), tuple(files)


def _poetry_project(
    install: PoetryInstall, where: SourceLocation | None
) -> tuple[PoetryInstall, tuple[FileEntry, ...]]:
    method = "poetry_install_from_file"
    pyproject = Path(install.pyproject).expanduser().absolute()
    files = [_entry(f"{method}: the project file", pyproject, f"{_POETRY}/pyproject.toml", where)]
    if install.ignore_lockfile:
        named = _table(_table(_toml(method, pyproject, where), "tool"), "poetry").get("source", ())
        return replace(install, indexes=tuple(item["url"] for item in named if "url" in item)), tuple(files)
    inferred = install.lockfile is None
    lock = pyproject.parent / "poetry.lock" if install.lockfile is None else Path(install.lockfile).expanduser()
    if inferred and not lock.is_file():
        raise LocalFileError(
            f"{method}: poetry.lock not found at inferred location: {lock}. Run `poetry lock` and commit the file, "
            "name it with poetry_lockfile=, or pass ignore_lockfile=True.",
            where=where,
        )
    return install, (*files, _entry(f"{method}: the lockfile", lock, f"{_POETRY}/poetry.lock", where))


def _spec_file(
    install: MicromambaInstall, where: SourceLocation | None
) -> tuple[MicromambaInstall, tuple[FileEntry, ...]]:
    path, target = install.spec_file, install.remote_spec_file()
    if path is None or target is None:
        return install, ()
    entry = _entry("micromamba_install: spec file", path, target, where)
    found = Path(path).expanduser().absolute()
    try:
        text = found.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DefinitionError(f"micromamba_install: {found} cannot be read: {error}.", where=where) from error
    return replace(install, specs=spec_file_packages(text, str(found), where)), (entry,)


def _dependencies(install: PipInstallProject, where: SourceLocation | None) -> tuple[str, ...]:
    method = "pip_install_from_pyproject"
    path = Path(install.pyproject).expanduser().absolute()
    if not path.is_file():
        raise LocalFileError(f"{method}: project file {path} does not exist.", where=where)
    project = _table(_toml(method, path, where), "project")
    if "dependencies" not in project:
        raise DefinitionError(
            f"{method}: {path} has no [project].dependencies. For a project of Poetry's own form, use "
            "poetry_install_from_file.",
            where=where,
        )
    optional = _table(project, "optional-dependencies")
    unknown = [name for name in install.extras if name not in optional]
    if unknown:
        has = ", ".join(optional) or "none"
        raise DefinitionError(
            f"{method}: {path} has no optional dependencies named {', '.join(unknown)}; it has {has}.", where=where
        )
    groups = [project["dependencies"], *(optional[name] for name in install.extras)]
    return tuple(str(requirement) for group in groups for requirement in group)


def _toml(method: str, path: Path, where: SourceLocation | None) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DefinitionError(f"{method}: {path} cannot be read: {error}.", where=where) from error


def _table(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}
