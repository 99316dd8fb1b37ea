"""What of this package and of pytest goes into containers: a test module imports both wherever it is imported."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pytest_imagebuild.errors import PythonMissingError, SourceLocation

__all__ = ["BEFORE_3_11", "FIND_PYTHON", "MODULES", "python_missing", "runtime_files"]

BEFORE_3_11 = ("exceptiongroup", "tomli", "typing_extensions")
"""What pytest imports on Python 3.10 only."""

MODULES = ("pytest", "_pytest", "py", "pluggy", "iniconfig", "packaging", "pygments", *BEFORE_3_11)
"""pytest and what it imports on any Python that it supports. All of it is, or falls back to, pure Python."""

_LEXERS = {"__init__.py", "_mapping.py", "python.py", "diff.py", "special.py", "_tzdata.py", "_lexer.py"}
_OURS = ("dockerfile", "image", "worker")
_PYTHON_GONE = 93
_PYTHON_OLD = 94

FIND_PYTHON = f"""\
python=$(command -v python || command -v python3) || exit {_PYTHON_GONE}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {{ "$python" --version; exit {_PYTHON_OLD}; }}
"""
"""The begin of a script that needs the image's Python, as `$python`. See `python_missing`."""


def python_missing(what: str, where: SourceLocation | None, exit_code: int, output: str) -> PythonMissingError | None:
    """Return the error of a script that ended because the image has no Python for it; None for another end.

    `what` begins the sentence: `Tests`.
    """
    place = f"{where}: " if where else ""
    if exit_code == _PYTHON_GONE:
        return PythonMissingError(
            f"{place}{what} cannot run in this image: it has neither `python` nor `python3` on PATH. Use add_python in "
            'from_registry, install one (`.apt_install("python3")`), or start from Image.debian_slim().'
        )
    if exit_code == _PYTHON_OLD:
        return PythonMissingError(
            f"{place}{what} cannot run in this image: its Python is too old ({output.strip()}), 3.10 is the oldest "
            "that works. Use add_python in from_registry, or start from Image.debian_slim()."
        )
    return None


@cache
def runtime_files() -> tuple[tuple[str, bytes], ...]:
    """Return the files, each by its path below a folder that is on `sys.path`."""
    return tuple((path.removeprefix(root).lstrip("/"), _content(path)) for root, paths in _shipped() for path in paths)


# Paths are text: this is done in every run, and paths as objects cost as much as reading the files does.


def _content(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        return file.readall()


def _shipped() -> Iterator[tuple[str, list[str]]]:
    for module in MODULES:
        location = _location(module)
        if location is not None:
            yield os.path.dirname(location), _python_files(location)  # noqa: PTH120
    package = str(Path(__file__).parent.parent)
    ours = [f"{package}/__init__.py", f"{package}/errors.py"]
    yield os.path.dirname(package), ours + [path for name in _OURS for path in _python_files(f"{package}/{name}")]  # noqa: PTH120


def _location(module: str) -> str | None:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return None
    # The origin of a package may be compiled, with the Python file beside it.
    folders = spec.submodule_search_locations
    return folders[0] if folders else spec.origin


def _python_files(location: str) -> list[str]:
    if os.path.isfile(location):  # noqa: PTH113
        return [location]
    found = []
    for folder, folders, names in os.walk(location):
        folders[:] = sorted({*folders} - {"__pycache__"})
        is_lexers = folder.endswith("/lexers")
        found += [
            f"{folder}/{name}" for name in sorted(names) if name.endswith(".py") and (not is_lexers or name in _LEXERS)
        ]
    return found
