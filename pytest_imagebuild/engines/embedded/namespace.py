"""A user namespace of subordinate ids for the containers of this process, and work on the files of those ids.

The namespace lives as long as its agent, or a container in it; the agent ends with this process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pytest_imagebuild.engines.embedded import agent, join
from pytest_imagebuild.engines.embedded.calls import encoded_files, encoded_stack, exchange, result_of
from pytest_imagebuild.engines.embedded.files import Entry, Stack
from pytest_imagebuild.engines.embedded.identity import PYTHON, Identity
from pytest_imagebuild.engines.embedded.spawner import Spawner
from pytest_imagebuild.engines.embedded.subids import NoSubordinateIds, id_map, map_ids
from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.errors import EngineError

if TYPE_CHECKING:
    from pytest_imagebuild.engines.embedded.dockerfile.copying import CopyRequest

__all__ = ["Namespace", "NamespaceFiles"]

_SECONDS = 20
_TRY = "Try `unshare --map-auto --map-root-user chroot / true`"


class Namespace:
    """Begins when it is made. Raises NoSubordinateIds at once where this user was given too few.

    Call `enter` before anything else.
    """

    def __init__(self, spawner: Spawner) -> None:
        self._maps = id_map("uid"), id_map("gid")
        self._control, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            self._agent = spawner.start(
                [*PYTHON, agent.__file__, str(number)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[number],
            )
        self._control.settimeout(_SECONDS)
        self._file = -1
        self._idle: list[socket.socket] = []
        self._calling = threading.Lock()

    @property
    def name(self) -> str:
        """A short name that other ids do not have: files keep the ids of this machine."""
        return "ids-" + hashlib.sha256(repr(self._maps).encode()).hexdigest()[:8]

    def enter(self) -> None:
        """Wait until it is there. Raises NoSubordinateIds where ids cannot be mapped."""
        try:
            self._file = self._open()
        except OSError as error:
            self.close()
            raise NoSubordinateIds(f"the user namespace cannot be used: {error}", _TRY) from error
        except BaseException:
            self.close()
            raise

    def identity(self) -> Identity:
        """Return root of this namespace: this user."""
        return Identity(
            options=("--userns", str(self._file)),
            python=(*PYTHON, join.__file__, str(self._file)),
            files=(self._file,),
            user_namespace=True,
        )

    def call(self, name: str, passed: Sequence[int] = (), /, **arguments: object) -> tuple[Any, list[int]]:
        """Let the agent do something with files; `passed` are open ones. Several threads may call at once."""
        with self._calling:
            connection = self._idle.pop() if self._idle else self._connect()
        # After an error of the connection it is not used again.
        reply, files = exchange(connection, name, arguments, passed)
        with self._calling:
            self._idle.append(connection)
        return result_of(reply), files

    def close(self) -> None:
        """End the agent. Calling it again does nothing."""
        with self._calling:
            self._control.close()
            for connection in self._idle:
                connection.close()
            self._idle.clear()
        with self._agent:
            self._agent.kill()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self) -> int:
        said = self._control.recv(200)
        if said != agent.READY:
            raise OSError(said.decode(errors="replace") or "its process ended")
        map_ids(self._agent.pid, *self._maps)
        self._control.sendall(agent.MAPPED)
        _, files, _, _ = socket.recv_fds(self._control, 1, 1)
        if not files:
            raise OSError("root of it is allowed nothing")
        return files[0]

    def _connect(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [agent.CALLS], [theirs.fileno()])
            except OSError as error:
                ours.close()
                raise EngineError(
                    f"the engine was closed, so files of subordinate ids are out of reach: {error}"
                ) from error
        return ours


class NamespaceFiles:
    """`Files` of subordinate ids."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    def unpack(self, blob: Path, media_type: str, target: Path, *, diff_id: str, limit: int) -> None:
        """Unpack the layer of a base image into `target`."""
        self._call("unpack", blob=str(blob), media_type=media_type, target=str(target), diff_id=diff_id, limit=limit)

    def pack(self, tree: Path, target: int) -> None:
        """Write a tree as the layer of an image to the open file `target`."""
        self._namespace.call("pack", [target], tree=str(tree))

    def survey(self, folder: Path) -> tuple[str, int]:
        """Return the digest of a folder, and the bytes on disk that it holds."""
        seal, size = self._call("survey", folder=str(folder))
        return seal, size

    def merge(self, trees: Sequence[Path], target: Path) -> None:
        """Lay trees, the lowest first, over each other in the new folder `target`."""
        self._call("merge", trees=[str(tree) for tree in trees], target=str(target))

    def move(self, source: Path, target: Path) -> None:
        """Rename a folder."""
        self._call("move", source=str(source), target=str(target))

    def remove(self, folder: Path) -> None:
        """Remove a folder or a file whatever the modes are."""
        self._call("remove", folder=str(folder))

    def disk_usage(self, path: Path) -> int:
        """Return the bytes that a file or a folder holds on disk."""
        return int(self._call("disk_usage", path=str(path)))

    def make_upper(self, stack: Stack) -> None:
        """Make an upper folder that has the mode and the owner of the uppermost tree."""
        self._call("make_upper", **encoded_stack(stack))

    def put(self, stack: Stack, files: Iterable[FileEntry]) -> None:
        """Write files."""
        encoded = encoded_files(files)
        if encoded:
            self._call("put", **encoded_stack(stack), files=encoded)

    def make_folder(self, stack: Stack, path: str) -> list[str]:
        """Have a folder at `path`; return the folders that were made, the uppermost first."""
        made: list[str] = self._call("make_folder", **encoded_stack(stack), path=path)
        return made

    def copy(self, stack: Stack, request: CopyRequest) -> None:
        """Copy files of trees as a Dockerfile does."""
        self._call("copy", **encoded_stack(stack), request=dict(request))

    def own(self, stack: Stack, paths: Sequence[str], uid: int, gid: int) -> None:
        """Give files in the upper folder to a user."""
        self._call("own", **encoded_stack(stack), paths=list(paths), uid=uid, gid=gid)

    def take_out(self, stack: Stack, files: Iterable[str], folders: Iterable[str]) -> None:
        """Remove files, and folders that are empty, which were put there."""
        self._call("take_out", **encoded_stack(stack), files=list(files), folders=list(folders))

    def find(self, stack: Stack, paths: Sequence[str], *, follow: bool = True) -> list[Entry | None]:
        """Return what is at absolute paths inside; None where nothing is."""
        if not paths:
            return []
        found = self._call("find", **encoded_stack(stack), paths=list(paths), follow=follow)
        return [None if entry is None else Entry(**entry) for entry in found]

    def destination(self, stack: Stack, path: str) -> str:
        """Return `path` without links, as far as it exists."""
        return str(self._call("destination", **encoded_stack(stack), path=path))

    @contextlib.contextmanager
    def open(self, stack: Stack, path: str) -> Iterator[IO[bytes]]:
        """Open a regular file to read it."""
        _, files = self._namespace.call("open", **encoded_stack(stack), path=path)
        with os.fdopen(files[0], "rb") as file:
            yield file

    def _call(self, name: str, **arguments: object) -> Any:
        return self._namespace.call(name, **arguments)[0]
