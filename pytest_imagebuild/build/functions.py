"""What the container of a `run_function` step is lent, and what its failures mean."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.work import CommandFailed
from pytest_imagebuild.image.resources import shown_memory
from pytest_imagebuild.plan.functions import PlannedFunction
from pytest_imagebuild.plan.places import SOURCE_ROOT
from pytest_imagebuild.plan.runtime import FIND_PYTHON, runtime_files
from pytest_imagebuild.worker import function as runner

__all__ = ["COMMAND", "function_advice", "function_tools"]

HOME = "/.imagebuild-function"
COMMAND = f'{FIND_PYTHON}exec "$python" -B -u {HOME}/run.py'
"""Calls the function. Nothing is compiled into the layer."""

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def function_tools(function: PlannedFunction) -> tuple[FileEntry, ...]:
    """Read the files of the call, as they are now. Raises OSError for a source that is gone."""
    call, origin = function.call, function.origin
    shipped = origin.files() if call.include_source else ()
    told = {
        "module": origin.module,
        "name": call.name,
        "root": SOURCE_ROOT,
        "places": origin.places() if call.include_source else {},
        "shipped": bool(shipped),
    }
    return (
        _tool("run.py", Path(runner.__file__).read_bytes()),
        _tool("runtime.zip", _runtime()),
        _tool("sources.tar", _tar(shipped)),
        _tool("call.json", json.dumps(told).encode()),
        *([_tool("payload", call.payload)] if call.payload else []),
    )


def function_advice(function: PlannedFunction, failure: CommandFailed) -> str:
    """Say why a function was killed, and what helps; empty for one that ended by itself."""
    call = function.call
    if failure.timed_out and call.timeout is not None:
        seconds = f"{call.timeout:g}"
        return (
            f"It was killed: it did not end within its timeout of {seconds} seconds. "
            "Give it longer: run_function(..., timeout=SECONDS)."
        )
    if failure.out_of_memory and call.memory is not None:
        return (
            f"The kernel killed it: it needs more memory than {shown_memory(call.memory)} allows. "
            "Give it more: run_function(..., memory=MIB)."
        )
    if failure.out_of_memory:
        return "The kernel killed it: the machine has no more memory."
    return ""


@cache
def _runtime() -> bytes:
    """Return pytest and this package as Python can import them from one file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in runtime_files():
            archive.writestr(zipfile.ZipInfo(path, _ZIP_TIME), data, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def _tar(files: Iterable[FileEntry]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for entry in {entry.path: entry for entry in reversed(tuple(files))}.values():
            data = entry.source.read_bytes() if entry.source is not None else entry.data or b""
            info = tarfile.TarInfo(entry.path.removeprefix(f"{SOURCE_ROOT}/"))
            info.mode, info.size = entry.mode, len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def _tool(name: str, data: bytes) -> FileEntry:
    return FileEntry(path=f"{HOME}/{name}", mode=0o600, data=data)
