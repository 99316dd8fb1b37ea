"""`imagebuild import`."""

from __future__ import annotations

import argparse

from pytest_imagebuild.cli.configured import opened, options_of
from pytest_imagebuild.cli.display import say
from pytest_imagebuild.errors import ImageBuildError

__all__ = ["load"]


def load(parsed: argparse.Namespace) -> int:
    """Bring the images of an archive into the engine, and print their names."""
    if not parsed.archive.is_file():
        found = "a folder" if parsed.archive.is_dir() else "nothing"
        message = f"{parsed.archive} should be an archive as `docker save` writes it, found {found}."
        raise ImageBuildError(message)
    with opened(options_of(parsed)) as engine:
        names = engine.load(parsed.archive, parsed.name, say if parsed.verbose else lambda _: None)
    for name in names:
        say(f'{name}: Image.from_registry("{name}")')
    return 0
