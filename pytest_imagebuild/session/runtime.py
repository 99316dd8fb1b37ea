"""The runtime layer: pytest and this package, put on top of an image so that tests can run in a container of it.

It is a layer like any other, kept under its key: the packages are copied and compiled once per image and pytest
version, on any engine, local or remote. They come last on `sys.path`: what the image has installed itself wins.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pytest_imagebuild.engines.protocol import FileEntry
from pytest_imagebuild.errors import ImageBuildError, PythonMissingError, SourceLocation, StepError
from pytest_imagebuild.image.canonical import digest
from pytest_imagebuild.image.instructions import Run
from pytest_imagebuild.plan.plan import Plan, PlannedLayer

__all__ = ["COMMAND", "explain", "with_runtime"]

HOME = "/.imagebuild"
SITE = f"{HOME}/site-packages"
COMMAND = (f"{HOME}/start",)
"""What a session container runs."""

MODULES = (
    "pytest",
    "_pytest",
    "py",
    "pluggy",
    "iniconfig",
    "packaging",
    "pygments",
    "exceptiongroup",
    "tomli",
    "typing_extensions",
)
"""pytest and what it imports on any Python that it supports. All of it is, or falls back to, pure Python."""

_LEXERS = {"__init__.py", "_mapping.py", "python.py", "diff.py", "special.py", "_tzdata.py", "_lexer.py"}
_OURS = ("image", "worker")
_PYTHON_GONE = 93
_PYTHON_OLD = 94
_PYTEST_BROKEN = 95
_TITLE = "the runtime layer (pytest)"

_SCRIPT = f"""\
python=$(command -v python || command -v python3) || exit {_PYTHON_GONE}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {{ "$python" --version; exit {_PYTHON_OLD}; }}
"$python" -m compileall -q --invalidation-mode unchecked-hash {SITE} >/dev/null 2>&1
"$python" -c 'import sys; sys.path.append("{SITE}"); import pytest' || exit {_PYTEST_BROKEN}
printf '#!/bin/sh\\nexec "%s" -u {SITE}/pytest_imagebuild/worker/__main__.py\\n' "$python" > {HOME}/start
chmod 755 {HOME}/start
"""


def with_runtime(plan: Plan) -> Plan:
    """Return the plan of the image that a session runs: `plan`'s, with the runtime layer on top."""
    top = plan.layers[-1]
    files = _files()
    identity = digest({"runtime": _SCRIPT})
    return plan.with_layer(
        PlannedLayer(
            title=_TITLE,
            where=plan.image.where,
            force=False,
            base=None,
            root=top.root,
            instructions=(Run(command=_SCRIPT),),
            environment=(),
            files=files,
            tools=(),
            step=identity,
            definition=digest({"below": top.definition, "layer": identity}),
        )
    )


def explain(failure: ImageBuildError) -> ImageBuildError:
    """Return the error that a user understands, for a failure of the runtime layer; any other as it is."""
    if not isinstance(failure, StepError) or failure.step != _TITLE:
        return failure
    text = _advice(failure.exit_code, failure.output.strip())
    if text is None:
        return failure
    return PythonMissingError(_at(failure.where, text))


def _advice(exit_code: int, output: str) -> str | None:
    match exit_code:
        case code if code == _PYTHON_GONE:
            return (
                "Tests cannot run in this image: it has neither `python` nor `python3` on PATH. Use add_python in "
                'from_registry, install one (`.apt_install("python3")`), or start from Image.debian_slim().'
            )
        case code if code == _PYTHON_OLD:
            return (
                f"Tests cannot run in this image: its Python is too old ({output}), 3.10 is the oldest that works. Use "
                "add_python in from_registry, or start from Image.debian_slim()."
            )
        case code if code == _PYTEST_BROKEN:
            return (
                "Tests cannot run in this image: pytest cannot be imported beside the packages that it has. Install "
                f'pytest in the image: `.pip_install("pytest")`. The error was:\n{output}'
            )
    return None


def _at(where: SourceLocation | None, text: str) -> str:
    return f"{where}: {text}" if where else text


@cache
def _files() -> tuple[FileEntry, ...]:
    return tuple(entry for root, paths in _shipped() for entry in (_entry(root, path) for path in paths))


def _shipped() -> Iterator[tuple[Path, list[Path]]]:
    for module in MODULES:
        location = _location(module)
        if location is not None:
            yield location.parent, _python_files(location)
    package = Path(__file__).parent.parent
    ours = [package / "__init__.py", package / "errors.py"]
    yield package.parent, ours + [path for name in _OURS for path in _python_files(package / name)]


def _location(module: str) -> Path | None:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return None
    # The origin of a package may be compiled, with the Python file beside it.
    folders = spec.submodule_search_locations
    return Path(folders[0] if folders else spec.origin)


def _python_files(location: Path) -> list[Path]:
    if location.is_file():
        return [location]
    found = []
    # Walked as text: this is done in every run, and paths as objects cost as much as reading the files does.
    for folder, folders, names in os.walk(location):
        folders[:] = sorted({*folders} - {"__pycache__"})
        is_lexers = folder.endswith("/lexers")
        found += [
            Path(folder, name) for name in sorted(names) if name.endswith(".py") and (not is_lexers or name in _LEXERS)
        ]
    return found


def _entry(root: Path, path: Path) -> FileEntry:
    data = path.read_bytes()
    target = SITE + str(path).removeprefix(str(root))
    return FileEntry(path=target, mode=0o644, data=data, sha256=hashlib.sha256(data).hexdigest())
