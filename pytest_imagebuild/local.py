"""What `Image.build()` and `Image.publish()` do: build on this machine, in the run of pytest that goes on, or alone.

`image/acting.py` loads it by name. What was built is known to this process alone, by the definition of an image.
"""

from __future__ import annotations

import argparse
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from pytest_imagebuild.cli.configured import options_of
from pytest_imagebuild.dispatch.workspace import Workspace
from pytest_imagebuild.engines.choose import choose_engine
from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.errors import ImageBuildError
from pytest_imagebuild.image.chain import Image
from pytest_imagebuild.options import Options
from pytest_imagebuild.plugin import current_config, run_of
from pytest_imagebuild.terminal import BuildDisplay

__all__ = ["build", "lines", "object_id", "publish"]

_ID_LENGTH = 22


@dataclass(frozen=True, kw_only=True, slots=True)
class _Attempt:
    """One build: its layer, None where it failed, and what its steps printed."""

    layer: BuiltLayer | None
    lines: tuple[str, ...]


_attempts: dict[Image, _Attempt] = {}
_building = threading.RLock()


def build(image: Image) -> None:
    """Build an image, unless this process has built it. Raises ImageBuildError."""
    with _building:
        if object_id(image) is not None:
            return
        said: list[str] = []
        layer: BuiltLayer | None = None
        try:
            with _workspace() as workspace, workspace.heard(image, said):
                layer = _built(workspace, image)
        except pytest.UsageError as error:
            raise ImageBuildError(str(error)) from error
        finally:
            _attempts[image] = _Attempt(layer=layer, lines=tuple(said))


def publish(image: Image, name: str) -> None:
    """Give a whole name, with its tag, to an image that this process has built. Raises EngineError."""
    with _building, _workspace() as workspace:
        layer = _attempts[image].layer
        if layer is None:
            raise AssertionError("it was looked at before that the image is built")
        workspace.publish(layer, name)


def object_id(image: Image) -> str | None:
    """Return the id of an image that this process has built, which is made of its layer key."""
    attempt = _attempts.get(image)
    if attempt is None or attempt.layer is None:
        return None
    return f"im-{attempt.layer.labels.key[:_ID_LENGTH]}"


def lines(image: Image) -> tuple[str, ...] | None:
    """Return what the steps of an image printed; None where this process has not tried to build it."""
    attempt = _attempts.get(image)
    return attempt.lines if attempt is not None else None


def _built(workspace: Workspace, image: Image) -> BuiltLayer:
    config = current_config()
    if config is not None:
        return run_of(config).build(image)
    outcome = workspace.build([image], for_tests=False)[image]
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@contextmanager
def _workspace() -> Iterator[Workspace]:
    """Give the workspace of the run of pytest that goes on, else one of its own."""
    config = current_config()
    if config is not None:
        yield run_of(config).workspace
        return
    workspace = _own_workspace(options_of(argparse.Namespace()))
    try:
        yield workspace
    finally:
        workspace.close()


def _own_workspace(options: Options) -> Workspace:
    run = uuid.uuid4().hex
    engine = choose_engine(options.engine, run=run, cache_dir=options.cache_dir)
    # Standard output is the program's own.
    return Workspace.open(engine, options, run, BuildDisplay(stream=sys.stderr))
