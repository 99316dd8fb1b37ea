"""How calls of `Files` cross a socket: a JSON object each way, after its length; an open file may go beside it."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytest_imagebuild.engines.embedded.files import Files, Stack
from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.errors import BaseImageError, EngineError

__all__ = ["answer", "encoded_files", "encoded_stack", "exchange", "result_of"]

_LENGTH = struct.Struct("!Q")
_ERRORS: Mapping[str, type[Exception]] = {"EngineError": EngineError, "BaseImageError": BaseImageError}


def exchange(
    agent: socket.socket, call: str, arguments: Mapping[str, object], passed: Sequence[int] = ()
) -> tuple[Any, list[int]]:
    """Send a call, with open files; return the reply and the files that came with it.

    Raises EngineError where nobody answers.
    """
    try:
        _send(agent, {"call": call, **arguments}, list(passed))
        received = _receive(agent)
    except OSError as error:
        raise EngineError(f"the process that works on files of subordinate ids is gone: {error}") from error
    if received is None:
        raise EngineError("the process that works on files of subordinate ids has ended")
    return received


def result_of(reply: Mapping[str, Any]) -> Any:
    """Return what a call returned, or raise what it raised."""
    if "error" in reply:
        raise _error(reply)
    return reply["result"]


def answer(asker: socket.socket, files: Files) -> bool:
    """Execute one call; say whether there was one."""
    try:
        received = _receive(asker)
        if received is None:
            return False
        request, passed = received
        opened: list[int] = []
        try:
            if request["call"] == "open":
                with files.open(_stack(request), request["path"]) as file:
                    opened.append(os.dup(file.fileno()))
                reply: dict[str, object] = {"result": None}
            elif request["call"] == "pack":
                files.pack(Path(request["tree"]), *passed)
                reply = {"result": None}
            else:
                reply = {"result": _CALLS[request["call"]](files, request)}
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
            reply = _described(error)
        try:
            _send(asker, reply, opened)
        finally:
            for number in (*opened, *passed):
                os.close(number)
    except OSError:
        return False
    return True


def encoded_stack(stack: Stack) -> dict[str, object]:
    """Return the arguments that say which container's files are meant."""
    return {"upper": str(stack.upper), "trees": [str(tree) for tree in stack.trees]}


def encoded_files(files: Iterable[FileEntry]) -> list[dict[str, object]]:
    """Return files to put as JSON takes them."""
    return [
        {
            "path": entry.path,
            "mode": entry.mode,
            "source": None if entry.source is None else str(entry.source.absolute()),
            "data": None if entry.data is None else base64.b64encode(entry.data).decode(),
        }
        for entry in files
    ]


def _stack(request: Mapping[str, Any]) -> Stack:
    return Stack(upper=Path(request["upper"]), trees=tuple(Path(tree) for tree in request["trees"]))


def _put(files: Files, request: Mapping[str, Any]) -> None:
    entries = (
        FileEntry(
            path=entry["path"],
            mode=entry["mode"],
            source=None if entry["source"] is None else Path(entry["source"]),
            data=None if entry["data"] is None else base64.b64decode(entry["data"]),
        )
        for entry in request["files"]
    )
    files.put(_stack(request), entries)


def _unpack(files: Files, request: Mapping[str, Any]) -> None:
    files.unpack(
        Path(request["blob"]),
        request["media_type"],
        Path(request["target"]),
        diff_id=request["diff_id"],
        limit=request["limit"],
    )


def _find(files: Files, request: Mapping[str, Any]) -> list[dict[str, object] | None]:
    found = files.find(_stack(request), request["paths"], follow=request["follow"])
    return [None if entry is None else asdict(entry) for entry in found]


_CALLS: Mapping[str, Callable[[Files, Mapping[str, Any]], object]] = {
    "unpack": _unpack,
    "survey": lambda files, request: files.survey(Path(request["folder"])),
    "merge": lambda files, request: files.merge([Path(tree) for tree in request["trees"]], Path(request["target"])),
    "move": lambda files, request: files.move(Path(request["source"]), Path(request["target"])),
    "remove": lambda files, request: files.remove(Path(request["folder"])),
    "disk_usage": lambda files, request: files.disk_usage(Path(request["path"])),
    "make_upper": lambda files, request: files.make_upper(_stack(request)),
    "put": _put,
    "make_folder": lambda files, request: files.make_folder(_stack(request), request["path"]),
    "copy": lambda files, request: files.copy(_stack(request), request["request"]),
    "own": lambda files, request: files.own(_stack(request), request["paths"], request["uid"], request["gid"]),
    "take_out": lambda files, request: files.take_out(_stack(request), request["files"], request["folders"]),
    "find": _find,
    "destination": lambda files, request: files.destination(_stack(request), request["path"]),
}


def _described(error: Exception) -> dict[str, object]:
    if isinstance(error, OSError) and error.errno is not None:
        return {"error": "OSError", "arguments": [error.errno, error.strerror, error.filename]}
    name = type(error).__name__
    return {"error": name, "arguments": [str(error) if name in _ERRORS else f"{name}: {error}"]}


def _error(found: Mapping[str, Any]) -> Exception:
    if found["error"] == "OSError":
        number, text, name = found["arguments"]
        return OSError(number, text, name) if name is not None else OSError(number, text)
    return _ERRORS.get(found["error"], EngineError)(*found["arguments"])


def _send(to: socket.socket, message: Mapping[str, object], files: list[int]) -> None:
    content = json.dumps(message).encode()
    # The length alone, as a message with open files is not sent in parts.
    socket.send_fds(to, [_LENGTH.pack(len(content))], files)
    to.sendall(content)


def _receive(source: socket.socket) -> tuple[Any, list[int]] | None:
    head, files, _, _ = socket.recv_fds(source, _LENGTH.size, 1)
    if not head:
        return None
    head += _read(source, _LENGTH.size - len(head))
    return json.loads(_read(source, _LENGTH.unpack(head)[0])), files


def _read(source: socket.socket, count: int) -> bytes:
    content = bytearray()
    while len(content) < count:
        part = source.recv(min(count - len(content), 1 << 20))
        if not part:
            raise ConnectionError("the connection broke off in the middle of a message")
        content += part
    return bytes(content)
