"""`imagebuild build` and `imagebuild lock`."""

from __future__ import annotations

import argparse
import sys
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pytest_imagebuild.cli.configured import options_of, probe
from pytest_imagebuild.cli.display import complain, say
from pytest_imagebuild.dispatch.definitions import load_image
from pytest_imagebuild.dispatch.workspace import Workspace
from pytest_imagebuild.engines.choose import choose_engine
from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.options import Options, upgrade_names
from pytest_imagebuild.terminal import BuildDisplay, summary_line

__all__ = ["build", "lock", "open_workspace"]


def build(parsed: argparse.Namespace) -> int:
    """Build images by name."""
    images = [load_image(name) for name in parsed.image]
    options = options_of(parsed)
    options = replace(options, force_build=options.force_build or parsed.force_build, locked=parsed.locked)
    workspace = open_workspace(options, parsed)
    try:
        outcome = workspace.build(images, for_tests=False)
    finally:
        workspace.close()
    for name, image in zip(parsed.image, images, strict=True):
        layer = outcome[image]
        if isinstance(layer, BuiltLayer):
            say(f"{name}: {layer.reference}")
    tally = workspace.builder.tally
    say(
        summary_line(
            [
                {
                    "reused": tally.reused,
                    "built": tally.built,
                    "seconds": tally.seconds,
                    "engine": workspace.engine.name,
                    "kept": 0,
                }
            ]
        )
    )
    return _show_failures(outcome.values())


def lock(parsed: argparse.Namespace) -> int:
    """Write or check the lockfile."""
    found = probe(parsed, collect=True)
    upgrade = None if parsed.upgrade is None else upgrade_names(parsed.upgrade)
    options = replace(found.options, locked=parsed.check, upgrade=upgrade)
    workspace = open_workspace(options, parsed)
    # Only a run over all tests knows what nothing uses any more.
    prune = not parsed.path
    try:
        if parsed.check:
            return _show_stale(options, workspace.stale(found.images, prune=prune))
        outcome = workspace.lock(found.images, prune=prune)
    finally:
        workspace.close()
    records = len(workspace.builder.pins.lockfile.layers)
    say(f"{options.lockfile}: {len(outcome)} images, {records} install layers")
    return _show_failures(filter(None, outcome.values()))


def open_workspace(options: Options, parsed: argparse.Namespace) -> Workspace:
    """Open what builds images, and tell of it on standard output."""
    run = uuid.uuid4().hex
    engine = choose_engine(options.engine, run=run, cache_dir=options.cache_dir)
    display = BuildDisplay(stream=sys.stdout, verbose=parsed.verbose)
    return Workspace.open(engine, options, run, display)


def _show_stale(options: Options, stale: Sequence[str]) -> int:
    for line in stale:
        complain(f"{options.lockfile.name}: {line}")
    if stale:
        complain("run `imagebuild lock` and commit the lockfile")
    else:
        say(f"{options.lockfile}: up to date")
    return 1 if stale else 0


def _show_failures(outcome: Iterable[BuiltLayer | Exception]) -> int:
    failures = [error for error in outcome if isinstance(error, Exception)]
    for error in failures:
        complain(error)
    return 1 if failures else 0
