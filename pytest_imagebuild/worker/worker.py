"""The worker, up to the import of pytest. Runs in the container: imports the standard library only.

What comes before that import decides which pytest it is: the files are put in place, then `sys.path`,
the environment and the working directory.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

from pytest_imagebuild.worker.channel import Requests, Wire
from pytest_imagebuild.worker.protocol import PROTOCOL
from pytest_imagebuild.worker.unpack import unpack

__all__ = ["main"]


def main(requests_fd: int, wire_fd: int, typed_fd: int) -> int:
    """Be told what to be, then run pytest and serve the controller. Returns the exit status.

    `typed_fd` is where what the user types for a debugger comes, where there is no terminal.
    """
    wire = Wire(wire_fd)
    requests = Requests(requests_fd)
    try:
        setup = requests.next()
        if setup["type"] == "finish":
            return 0
        if problem := _prepare(setup, requests):
            wire.send({"type": "error", "text": problem})
            return 1
        from pytest_imagebuild.worker.config import run  # noqa: PLC0415 - it imports pytest

        return run(setup, requests, wire, typed_fd)
    except Exception:  # noqa: BLE001 - the last frame of the process: the controller shall see whatever it was
        wire.send({"type": "error", "text": traceback.format_exc()})
        return 1


def _prepare(setup: dict[str, Any], requests: Requests) -> str:
    """Make the process what `setup` says. Returns what makes that impossible, or ""."""
    if setup["type"] != "setup" or setup["protocol"] != PROTOCOL:
        return (
            f"The controller speaks version {setup.get('protocol')!r} of the protocol, this worker {PROTOCOL}. "
            "Let the container use the pytest-imagebuild of the host: remove the one in the image."
        )
    try:
        for directory in setup["directories"]:
            os.makedirs(directory, exist_ok=True)  # noqa: PTH103 - pathlib costs time at every start
        unpack(requests, setup["payload"], setup.get("root", "/"))
        os.chdir(setup["cwd"])
    except OSError as error:
        return (
            f"The files of the project cannot be put in place in the container: {error}. "
            "Run the image as a user that may write there."
        )
    os.environ.update(setup["environment"])
    sys.path[:0] = setup["path"]
    sys.argv = ["pytest", *setup["args"]]
    return ""
