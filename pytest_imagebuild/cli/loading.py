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
        raise ImageBuildError(f"{parsed.archive} is not a file. Give an archive as `docker save` writes it.")
    with opened(options_of(parsed)) as engine:
        names = engine.load(parsed.archive, parsed.name, say if parsed.verbose else lambda _: None)
    for name in names:
        say(f'{name}: Image.from_registry("{name}")')
    return 0
