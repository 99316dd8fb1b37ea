"""`imagebuild unpublish`."""

from __future__ import annotations

import argparse

from pytest_imagebuild.build.names import Names
from pytest_imagebuild.cli.configured import opened, options_of
from pytest_imagebuild.cli.display import complain, say

__all__ = ["unpublish"]


def unpublish(parsed: argparse.Namespace) -> int:
    """Take names away; 1 where one was not there."""
    options = options_of(parsed)
    with opened(options) as engine:
        names = Names(options.cache_dir, engine.capabilities().identity)
        missing = 0
        for given in dict.fromkeys(parsed.name):
            name = given if ":" in given.rpartition("/")[2] else f"{given}:latest"
            if names.withdraw(name):
                say(f"{name} names no image any more")
            else:
                known = ", ".join(names.all()) or "none"
                complain(f"no image is published as {name} on the {engine.name} engine, which has {known}")
                missing += 1
    return 1 if missing else 0
