"""Image builder versions: data files in the package (`builder_versions/*.toml`)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pytest_imagebuild.errors import UnknownVersionError
from pytest_imagebuild.image.builder import Builder

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["available", "choose", "load"]

_FOLDER = Path(__file__).parents[1] / "builder_versions"


@cache
def available() -> tuple[str, ...]:
    """Return the versions that have a data file, oldest first."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


@cache
def load(version: str) -> Builder:
    """Return the builder of `version`. Raises UnknownVersionError."""
    if version not in available():
        raise UnknownVersionError(
            f"Unknown image builder version {version!r}. Known versions: {', '.join(available())}. Set "
            "MODAL_IMAGE_BUILDER_VERSION or the ini key image_builder_version to one of them."
        )
    text = (_FOLDER / f"{version}.toml").read_text(encoding="utf-8")
    return Builder.from_dict(tomllib.loads(text))


def choose(environment: Mapping[str, str], ini: str) -> Builder:
    """Return the builder that `MODAL_IMAGE_BUILDER_VERSION`, else the ini key, else the newest data file names."""
    return load(environment.get("MODAL_IMAGE_BUILDER_VERSION") or ini or available()[-1])
