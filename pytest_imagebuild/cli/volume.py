"""`imagebuild volume`: list, make and remove the volumes that outlive runs."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict

from pytest_imagebuild.cli.configured import opened, options_of
from pytest_imagebuild.cli.display import complain, say
from pytest_imagebuild.engines.volumes import StoredVolume
from pytest_imagebuild.image.volume import check_name
from pytest_imagebuild.units import age_text, size_text

__all__ = ["volume_create", "volume_ls", "volume_name", "volume_rm"]

_HEAD = ("VOLUME", "SIZE", "AGE", "")


def volume_ls(parsed: argparse.Namespace) -> int:
    """List the volumes by name."""
    with opened(options_of(parsed)) as engine:
        name, volumes = engine.name, engine.volumes()
    if parsed.json:
        say(json.dumps([asdict(volume) for volume in volumes], indent=2))
        return 0
    for row in _table(volumes):
        say(row)
    say(f"{len(volumes)} volumes on the {name} engine, {size_text(sum(volume.size for volume in volumes))}")
    return 0


def volume_create(parsed: argparse.Namespace) -> int:
    """Make a volume; one that is there stays as it is."""
    with opened(options_of(parsed)) as engine:
        if engine.has_volume(parsed.name):
            say(f"{parsed.name} is there already on the {engine.name} engine; it stays as it is")
        else:
            engine.make_volume(parsed.name)
            say(f"made {parsed.name} on the {engine.name} engine")
    return 0


def volume_rm(parsed: argparse.Namespace) -> int:
    """Remove volumes with all that is in them; 1 where one is missing or in use, which keeps none of the others."""
    failed = False
    with opened(options_of(parsed)) as engine:
        for name in dict.fromkeys(parsed.names):
            if not engine.has_volume(name):
                complain(f"there is no volume {name!r} on the {engine.name} engine; see `imagebuild volume ls`")
                failed = True
            elif (freed := engine.remove_volume(name)) is None:
                complain(f"the volume {name!r} is in use: a container has it mounted. Remove it when that has ended")
                failed = True
            else:
                say(f"removed {name}, freed {size_text(freed)}")
    return 1 if failed else 0


def volume_name(text: str) -> str:
    """Read the name of a volume. Raises ArgumentTypeError."""
    try:
        check_name(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
    return text


def _table(volumes: Sequence[StoredVolume]) -> list[str]:
    now = time.time()
    rows = [
        (volume.name, size_text(volume.size), age_text(now - volume.created), "in use" if volume.in_use else "")
        for volume in volumes
    ]
    rows = [_HEAD, *rows] if rows else []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        f"{name.ljust(widths[0])}  {size.rjust(widths[1])}  {age.rjust(widths[2])}  {use}".rstrip()
        for name, size, age, use in rows
    ]
