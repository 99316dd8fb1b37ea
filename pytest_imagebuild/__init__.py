"""Run tests inside the image that they name: a pytest plugin with Modal-style image chains.

Importing this package needs the standard library alone, because test modules are imported inside containers too.
It loads the chain at its first use: a run without images pays almost nothing for the plugin.

PYTEST_DONT_REWRITE: there is nothing to rewrite here, and pytest would warn where it is imported before pytest starts.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from pytest_imagebuild.errors import (
    BaseImageError,
    DefinitionError,
    EngineError,
    EngineUnavailableError,
    ImageBuildError,
    LocalFileError,
    LockfileError,
    ModuleNotMountable,
    PythonMissingError,
    SecretError,
    SourceLocation,
    StepError,
    UnknownVersionError,
    WireError,
)

if TYPE_CHECKING:
    from pytest_imagebuild.image.chain import Image
    from pytest_imagebuild.image.patterns import FilePatternMatcher
    from pytest_imagebuild.image.secret import Secret
    from pytest_imagebuild.image.volume import Volume
    from pytest_imagebuild.worker.hosted import host_fixture

    __version__: str

__all__ = [
    "BaseImageError",
    "DefinitionError",
    "EngineError",
    "EngineUnavailableError",
    "FilePatternMatcher",
    "Image",
    "ImageBuildError",
    "LocalFileError",
    "LockfileError",
    "ModuleNotMountable",
    "PythonMissingError",
    "Secret",
    "SecretError",
    "SourceLocation",
    "StepError",
    "UnknownVersionError",
    "Volume",
    "WireError",
    "__version__",
    "host_fixture",
]


def _version() -> str:
    from importlib import metadata  # noqa: PLC0415 - slow, and seldom asked for

    try:
        return metadata.version("pytest-imagebuild")
    except metadata.PackageNotFoundError:
        # In a container the package is mounted, not installed.
        return "0+unknown"


_MODULES = {
    "FilePatternMatcher": "image.patterns",
    "Image": "image.chain",
    "Secret": "image.secret",
    "Volume": "image.volume",
    "host_fixture": "worker.hosted",
}


if not TYPE_CHECKING:  # else a type checker would take every name for one of this module

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            module = import_module(f"{__name__}.{_MODULES[name]}")  # on demand, see above
            value: object = getattr(module, name)
        elif name == "__version__":
            value = _version()
        else:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        globals()[name] = value
        return value
