"""The worker, up to the import of pytest. Runs in the container: imports the standard library only.

pytest is imported while the worker waits to be told what it is for. The files of the project are put in place then,
`sys.path`, the environment and the working directory; a pytest of the project itself takes the place of the other.
"""

from __future__ import annotations

import errno
import gc
import importlib
import os
import sys
import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pytest_imagebuild.worker.channel import Requests, Wire
from pytest_imagebuild.worker.protocol import PROTOCOL
from pytest_imagebuild.worker.unpack import remove, unpack

__all__ = ["main"]

_OF_TESTS = ("pytest_imagebuild.image.chain", "pytest_imagebuild.image.factories")
_NOT_ALLOWED = "Run the image as a user that may write there."
_FULL = (
    "The engine's disk is full. Free some: `imagebuild prune` removes what no image needs. Or copy less of the "
    "project: leave files out in .gitignore, or with the ini key image_sync."
)


def main(requests_fd: int, wire_fd: int, typed_fd: int) -> int:
    """Be told what to be, then run pytest and serve the controller. Returns the exit status.

    `typed_fd` is where what the user types for a debugger comes, where there is no terminal.
    """
    wire = Wire(wire_fd)
    requests = Requests(requests_fd)
    known = set(sys.modules)
    try:
        # The container may have been started before anybody knew what for.
        with suppress(Exception), _without_collections():
            import pytest_imagebuild.worker.config  # noqa: F401, PLC0415 - it imports pytest

            _import_meanwhile(requests)
        setup = requests.next()
        if setup["type"] == "finish":
            return 0
        if problem := _prepare(setup, requests):
            wire.send({"type": "error", "text": problem})
            return 1
        _forget_shadowed(known, setup["path"])
        from pytest_imagebuild.worker.config import run  # noqa: PLC0415 - it imports pytest

        return run(setup, requests, wire, typed_fd)
    except Exception:  # noqa: BLE001 - the last frame of the process: the controller shall see whatever it was
        wire.send({"type": "error", "text": traceback.format_exc()})
        return 1


def _import_meanwhile(requests: Requests) -> None:
    """Import what comes next, until somebody says what this is for: what pytest imports later, and what tests do."""
    from _pytest.config import default_plugins  # noqa: PLC0415 - pytest is imported by now

    for name in (*(f"_pytest.{plugin}" for plugin in default_plugins), *_OF_TESTS):
        if requests.arrived():
            return
        importlib.import_module(name)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Leave out the collections of garbage of an import: they take a tenth of its time, and modules are none."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _forget_shadowed(known: Collection[str], path: Sequence[str]) -> None:
    """Let pytest be imported anew if the project has something of its own of what has been imported already.

    `known` are the modules that were there before.
    """
    ours = __name__.partition(".")[0]
    imported = {name: name.partition(".")[0] for name in sys.modules.keys() - known}
    installed = [name for name, top in imported.items() if top == ours or _is_installed(sys.modules[name])]
    names = {imported[name] for name in installed} - {ours}
    if not any(_holds(folder, name) for folder in path for name in names):
        return
    for name in installed:
        del sys.modules[name]
    for name in installed:
        package, _, attribute = name.rpartition(".")
        # `from package import module` would find it there.
        with suppress(AttributeError, KeyError):
            delattr(sys.modules[package], attribute)


def _is_installed(module: object) -> bool:
    file = getattr(module, "__file__", None) or ""
    return "/site-packages/" in file or "/dist-packages/" in file


def _holds(folder: str, name: str) -> bool:
    return os.path.exists(f"{folder}/{name}.py") or os.path.exists(f"{folder}/{name}/__init__.py")  # noqa: PTH110 - pathlib costs time at every start


def _prepare(setup: dict[str, Any], requests: Requests) -> str:
    """Make the process what `setup` says. Returns what makes that impossible, or ""."""
    if setup["type"] != "setup" or setup["protocol"] != PROTOCOL:
        return (
            f"The controller speaks version {setup.get('protocol')!r} of the protocol, this worker {PROTOCOL}. "
            "Let the container use the pytest-imagebuild of the host: remove the one in the image."
        )
    try:
        remove(setup["removed"])
        for directory in setup["directories"]:
            os.makedirs(directory, exist_ok=True)  # noqa: PTH103 - pathlib costs time at every start
        unpack(requests, setup["payload"], setup.get("root", "/"))
        os.chdir(setup["cwd"])
    except OSError as error:
        advice = _FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else _NOT_ALLOWED
        return f"The files of the project cannot be put in place in the container: {error}. {advice}"
    os.environ.update(setup["environment"])
    sys.path[:0] = setup["path"]
    sys.argv = ["pytest", *setup["args"]]
    return ""
