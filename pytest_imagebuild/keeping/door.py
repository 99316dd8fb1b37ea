"""Where the process is that keeps containers, and how one talks to it: lines of JSON over a socket in its folder.

<cache folder>/keepers/<store>/<who>/socket   one for each store of layers, and user, Python, copy of this package and
                                              way to the engine, which are in <who>
                                     lock     held while it lives
                                     log      what it printed: nothing, where all went well
<cache folder>/keepers/near/<who>             the last of these folders, for an engine as the user names it

A connection asks one thing. `{"keep": [[key, *spec], ...], "run": id, "seconds": n}` has containers wait,
`{"take": [reference, key, *spec]}` gets one, `{"let_go": true}` ends all that wait. The answer to the second carries
the file descriptors of the container's streams, and the container lives as long as the connection, which can ask
`{"wait": seconds}`. After `{"engine": name}` it is asked about layers (`answering.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_imagebuild.engines.protocol import Engine
from pytest_imagebuild.engines.uses import folder_name
from pytest_imagebuild.errors import EngineError

__all__ = ["Line", "all_places", "ask", "call", "listen", "near", "place_of", "silent"]

_PROTOCOL = 2
_WAYS = ("DOCKER_", "IMAGEBUILD_EMBEDDED_")
_HOMES = ("HOME", "XDG_RUNTIME_DIR")
"""The variables that lead to an engine: how their names begin, and names."""
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_CREDENTIALS = struct.Struct("iII")
_LONGEST = 64 * 1024
_STREAMS = 3
_ANSWER_SECONDS = 30.0
_PATIENCE = 5.0
"""Seconds after which a process that does not answer is taken for one that never will."""


def place_of(cache_dir: Path, engine: Engine) -> Path:
    """Return the folder of the process that keeps containers of an engine for this user and this Python."""
    return _places(cache_dir, engine) / _who(engine.name)


def near(cache_dir: Path, asked: str) -> Path:
    """Return the file with the folder of the process that had the engine which a user asks for by this name."""
    return cache_dir / "keepers" / "near" / _who(asked)


def all_places(cache_dir: Path, engine: Engine) -> Sequence[Path]:
    """Return the folders of all processes that keep, or have kept, containers of an engine."""
    folder = _places(cache_dir, engine)
    return sorted(folder.iterdir()) if folder.is_dir() else []


def listen(place: Path) -> socket.socket:
    """Return the socket that listens in a folder, whose lock is held. Raises OSError."""
    (place / "socket").unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    with _address(place) as address:
        listener.bind(address)
    listener.listen(64)
    return listener


def call(place: Path) -> Line | None:
    """Return a connection to the process of a folder, None where there is none of this user."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_PATIENCE)
    try:
        # Only its owner can listen in it.
        if os.stat(place).st_uid != os.getuid():  # noqa: PTH116
            raise PermissionError
        with _address(place) as address:
            connection.connect(address)
    except (OSError, ValueError):  # the latter for what is no path
        connection.close()
        return None
    return Line(connection)


def ask(place: Path, request: Mapping[str, object]) -> Mapping[str, Any] | None:
    """Return what the process of a folder answers; None where there is none, or it is about to end.

    Raises EngineError for one that does not answer.
    """
    line = call(place)
    if line is None:
        return None
    with contextlib.closing(line), contextlib.suppress(BrokenPipeError, ConnectionResetError):
        try:
            line.send(request)
            received = line.receive(_ANSWER_SECONDS)
        except TimeoutError as error:
            raise silent(line.process()) from error
        return received[0] if received is not None else None
    return None


def silent(process: int) -> EngineError:
    """Return the error that a process does not answer which keeps containers."""
    return EngineError(f"the process that keeps containers for the next run does not answer. End it: kill -9 {process}")


class Line:
    """A connection, for one thread. Whoever is on the other side is a process of this user."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def send(self, message: Mapping[str, object], streams: Sequence[int] = ()) -> None:
        """Send a message, and with it file descriptors. Raises OSError."""
        data = json.dumps(message).encode() + b"\n"
        sent = socket.send_fds(self._socket, [data], streams) if streams else 0
        self._socket.sendall(data[sent:])

    def receive(self, timeout: float | None = _PATIENCE) -> tuple[Mapping[str, Any], list[int]] | None:
        """Return the next message and the file descriptors that came with it; None where there is none.

        Raises TimeoutError after so many seconds.
        """
        data, streams = b"", []
        self._socket.settimeout(timeout)
        try:
            while not data.endswith(b"\n") and len(data) <= _LONGEST:
                more, came, _, _ = socket.recv_fds(self._socket, _LONGEST, _STREAMS, _CLOSE_ON_EXEC)
                streams += came
                data += more
                if not more:
                    break
            message = json.loads(data)
            if isinstance(message, dict):
                found, streams = streams, []
                return message, found
        except TimeoutError:
            raise
        except (OSError, ValueError):
            pass
        finally:
            for stream in streams:
                os.close(stream)
        return None

    def process(self) -> int:
        """Return the id of the process that listens there (unix(7), SO_PEERCRED)."""
        found: tuple[int, ...] = _CREDENTIALS.unpack(
            self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        return found[0]

    def close(self) -> None:
        """Hang up. Calling it again does nothing."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _who(name: str) -> str:
    # Another version of this package has another file here, also at the same path.
    code = os.stat(__file__)  # noqa: PTH116
    ways = sorted((key, value) for key, value in os.environ.items() if key.startswith(_WAYS) or key in _HOMES)
    who = [name, os.getuid(), sys.executable, __file__, code.st_ino, code.st_mtime_ns, _PROTOCOL, ways]
    return hashlib.sha256(json.dumps(who).encode()).hexdigest()[:16]


def _places(cache_dir: Path, engine: Engine) -> Path:
    return cache_dir / "keepers" / folder_name(engine.capabilities().identity)


@contextlib.contextmanager
def _address(place: Path) -> Iterator[str]:
    """Name a socket in a few bytes, of which there may be about a hundred, where the kernel lets one."""
    if not os.path.isdir("/proc/self/fd"):  # noqa: PTH112
        yield str(place / "socket")
        return
    folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/socket"
    finally:
        os.close(folder)
