"""`imagebuild export`."""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
from pathlib import Path

from pytest_imagebuild.build.lockstore import LockStore
from pytest_imagebuild.cli.building import open_workspace
from pytest_imagebuild.cli.configured import options_of
from pytest_imagebuild.cli.display import complain, say
from pytest_imagebuild.dispatch.definitions import load_image
from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.protocol import platform_of
from pytest_imagebuild.engines.references import Reference, is_image_name
from pytest_imagebuild.errors import ImageBuildError
from pytest_imagebuild.image.chain import Image
from pytest_imagebuild.plan.builders import choose
from pytest_imagebuild.plan.dockerfile import dockerfile_of
from pytest_imagebuild.plan.plan import plan_image
from pytest_imagebuild.terminal import BuildDisplay
from pytest_imagebuild.units import size_text

__all__ = ["export", "name_of"]


def export(parsed: argparse.Namespace) -> int:
    """Write an image as an archive, or print its chain as a Dockerfile."""
    image = load_image(parsed.image)
    if parsed.dockerfile:
        return _print_dockerfile(parsed, image)
    return _write_archive(parsed, image)


def name_of(given: str | None, image: str) -> str:
    """Return the name of an image in its archive, with a tag: as given, else by the variable in `FILE.py:NAME`.

    Raises ImageBuildError for what cannot name an image.
    """
    if given is None:
        given = re.sub("_+", "_", image.rpartition(":")[2].lower()).strip("_") or "image"
    if not is_image_name(given):
        raise ImageBuildError(
            f"--name {given!r} cannot name an image. Write NAME or NAME:TAG, the name in lower case: team/app:1.0."
        )
    reference = Reference.parse(given)
    return f"{reference.repository}:{reference.tag}"


def _write_archive(parsed: argparse.Namespace, image: Image) -> int:
    name, target = name_of(parsed.name, parsed.image), parsed.oci
    if target.is_dir():
        raise ImageBuildError(f"--oci {target} should name a file, found a folder. Write {target / 'image.tar'}.")
    workspace = open_workspace(options_of(parsed), parsed)
    try:
        layer = workspace.build([image], for_tests=False)[image]
        if not isinstance(layer, BuiltLayer):
            complain(layer)
            return 1
        display = BuildDisplay(stream=sys.stdout)
        workspace.engine.save(layer, target, name, display.note)
    finally:
        workspace.close()
    for source in image.local_sources:
        say(f"{source.describe()} is put in place when a container starts, so the archive is without it: copy=True")
    say(f"{target}: {name}, {size_text(target.stat().st_size)}; load it with `docker load -i {target}`")
    return 0


def _print_dockerfile(parsed: argparse.Namespace, image: Image) -> int:
    if parsed.name is not None:
        raise ImageBuildError("--name is for --oci: a Dockerfile has no name; `docker build -t` gives one.")
    options = options_of(parsed)
    plan = plan_image(image, choose(os.environ, options.builder_version))
    lockfile = LockStore(options.lockfile, options.cache_dir).read()
    # No engine is asked: images are for machines as this one is.
    here = platform_of("linux", platform.machine())
    bases = {record.reference: record for record in lockfile.bases if record.platform == here}
    say(dockerfile_of(plan, bases, Path.cwd()).rstrip("\n"))
    return 0
