"""What is done to the files of trees, and to those that containers write, from outside of a container.

Whose files they are depends on whom a container's root is. Where that is this user alone, or root, this process does it
itself: `OwnFiles`. Files of subordinate ids take a process that may be all of them: `namespace.py`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, Protocol

from pytest_imagebuild.engines.embedded import removal
from pytest_imagebuild.engines.embedded.merge import merge
from pytest_imagebuild.engines.embedded.place import Upper
from pytest_imagebuild.engines.embedded.survey import survey
from pytest_imagebuild.engines.entries import FileEntry

if TYPE_CHECKING:
    from pytest_imagebuild.engines.embedded.dockerfile.copying import CopyRequest

__all__ = ["Entry", "Files", "OwnFiles", "Stack", "UpperFolder"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """Something in the file system of a container. `path` is where it is inside, without links."""

    path: str
    is_folder: bool
    is_file: bool


class Stack(NamedTuple):
    """An upper folder, and the trees below it, the uppermost first."""

    upper: Path
    trees: tuple[Path, ...]


class Files(Protocol):
    """Everything may raise OSError."""

    def unpack(self, blob: Path, media_type: str, target: Path, *, diff_id: str, limit: int) -> None:
        """Unpack the layer of a base image into `target`; see `oci.unpack`. Raises BaseImageError."""
        ...

    def pack(self, tree: Path, target: int) -> None:
        """Write a tree as the layer of an image to the open file `target`; see `oci.pack`. Raises EngineError."""
        ...

    def survey(self, folder: Path) -> tuple[str, int]:
        """Return the digest of a folder, and the bytes on disk that it holds."""
        ...

    def merge(self, trees: Sequence[Path], target: Path) -> None:
        """Lay trees, the lowest first, over each other in the new folder `target`."""
        ...

    def move(self, source: Path, target: Path) -> None:
        """Rename a folder. Raises FileExistsError where there is something in `target`."""
        ...

    def remove(self, folder: Path) -> None:
        """Remove a folder or a file whatever the modes are. One that is gone is as good."""
        ...

    def disk_usage(self, path: Path) -> int:
        """Return the bytes that a file or a folder holds on disk."""
        ...

    def make_upper(self, stack: Stack) -> None:
        """Make an upper folder that has the mode and the owner of the uppermost tree."""
        ...

    def put(self, stack: Stack, files: Iterable[FileEntry]) -> None:
        """Write files; see `Upper.put`. Raises EngineError."""
        ...

    def make_folder(self, stack: Stack, path: str) -> list[str]:
        """Have a folder at `path`; return the folders that were made, the uppermost first. Raises EngineError."""
        ...

    def copy(self, stack: Stack, request: CopyRequest) -> None:
        """Copy files of trees as a Dockerfile does; see `dockerfile.copying`. Raises EngineError."""
        ...

    def own(self, stack: Stack, paths: Sequence[str], uid: int, gid: int) -> None:
        """Give files in the upper folder to a user."""
        ...

    def take_out(self, stack: Stack, files: Iterable[str], folders: Iterable[str]) -> None:
        """Remove files, and folders that are empty, which were put there."""
        ...

    def find(self, stack: Stack, paths: Sequence[str], *, follow: bool = True) -> list[Entry | None]:
        """Return what is at absolute paths inside; None where nothing is. See `MergedView.find`."""
        ...

    def destination(self, stack: Stack, path: str) -> str:
        """Return `path` without links, as far as it exists."""
        ...

    def open(self, stack: Stack, path: str) -> AbstractContextManager[IO[bytes]]:
        """Open a regular file to read it. Raises FileNotFoundError, or IsADirectoryError where it is something else."""
        ...


class OwnFiles:
    """Does it in this process. `keep_owners` says that it may give files away: it is root, at least of a namespace."""

    def __init__(self, *, keep_owners: bool) -> None:
        self._keep_owners = keep_owners

    def unpack(self, blob: Path, media_type: str, target: Path, *, diff_id: str, limit: int) -> None:
        """Unpack the layer of a base image into `target`."""
        # Few processes of an engine bring a base image.
        from pytest_imagebuild.engines.oci.unpack import unpack  # noqa: PLC0415

        unpack(blob, media_type, target, diff_id=diff_id, keep_owners=self._keep_owners, limit=limit)

    def pack(self, tree: Path, target: int) -> None:
        """Write a tree as the layer of an image to the open file `target`."""
        from pytest_imagebuild.engines.oci.pack import pack  # noqa: PLC0415 - few processes save an image

        pack(tree, target, keep_owners=self._keep_owners)

    def survey(self, folder: Path) -> tuple[str, int]:
        """Return the digest of a folder, and the bytes on disk that it holds."""
        return survey(str(folder))

    def merge(self, trees: Sequence[Path], target: Path) -> None:
        """Lay trees, the lowest first, over each other in the new folder `target`."""
        merge(trees, target)

    def move(self, source: Path, target: Path) -> None:
        """Rename a folder."""
        try:
            source.rename(target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
            raise

    def remove(self, folder: Path) -> None:
        """Remove a folder or a file whatever the modes are."""
        removal.remove_tree(folder)

    def disk_usage(self, path: Path) -> int:
        """Return the bytes that a file or a folder holds on disk."""
        return removal.disk_usage(path)

    def make_upper(self, stack: Stack) -> None:
        """Make an upper folder that has the mode and the owner of the uppermost tree."""
        status = stack.trees[0].lstat()
        stack.upper.mkdir()
        if self._keep_owners:
            os.chown(stack.upper, status.st_uid, status.st_gid)
        stack.upper.chmod(status.st_mode & 0o7777 | 0o700)

    def put(self, stack: Stack, files: Iterable[FileEntry]) -> None:
        """Write files."""
        _upper(stack).put(files)

    def make_folder(self, stack: Stack, path: str) -> list[str]:
        """Have a folder at `path`; return the folders that were made, the uppermost first."""
        return _upper(stack).make_folder(path)

    def copy(self, stack: Stack, request: CopyRequest) -> None:
        """Copy files of trees as a Dockerfile does."""
        # Only a Dockerfile needs it.
        from pytest_imagebuild.engines.embedded.dockerfile.copying import copy  # noqa: PLC0415

        copy(stack.upper, stack.trees, request, keep_owners=self._keep_owners)

    def own(self, stack: Stack, paths: Sequence[str], uid: int, gid: int) -> None:
        """Give files in the upper folder to a user."""
        for path in paths if self._keep_owners else ():
            os.chown(stack.upper / path.lstrip("/"), uid, gid, follow_symlinks=False)

    def take_out(self, stack: Stack, files: Iterable[str], folders: Iterable[str]) -> None:
        """Remove files, and folders that are empty, which were put there."""
        _upper(stack).remove(files, folders)

    def find(self, stack: Stack, paths: Sequence[str], *, follow: bool = True) -> list[Entry | None]:
        """Return what is at absolute paths inside; None where nothing is."""
        view = _upper(stack).view
        return [
            Entry(path=found.path, is_folder=found.is_folder, is_file=stat.S_ISREG(found.status.st_mode))
            if found is not None
            else None
            for found in (view.find(path, follow=follow) for path in paths)
        ]

    def destination(self, stack: Stack, path: str) -> str:
        """Return `path` without links, as far as it exists."""
        return _upper(stack).view.destination(path)

    def open(self, stack: Stack, path: str) -> IO[bytes]:
        """Open a regular file to read it."""
        found = _upper(stack).view.find(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if not stat.S_ISREG(found.status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "it is not a file", path)
        return found.real.open("rb")


class UpperFolder:
    """The upper folder of one container, as its stack and what does it make it."""

    def __init__(self, files: Files, stack: Stack) -> None:
        self._files = files
        self._stack = stack

    @property
    def folder(self) -> Path:
        """Where it is on this machine."""
        return self._stack.upper

    def put(self, files: Iterable[FileEntry]) -> None:
        """Write `files`, and the folders above them that are missing, owned by root and of one fixed time."""
        self._files.put(self._stack, files)

    def make_folder(self, path: str) -> list[str]:
        """Have a folder at `path`; return the folders that were made, the uppermost first."""
        return self._files.make_folder(self._stack, path)

    def copy(self, request: CopyRequest) -> None:
        """Copy files of trees as a Dockerfile does."""
        self._files.copy(self._stack, request)

    def own(self, paths: Sequence[str], uid: int, gid: int) -> None:
        """Give files that are here to a user."""
        self._files.own(self._stack, paths, uid, gid)

    @property
    def trees(self) -> tuple[Path, ...]:
        """The folders that the image is made of with what was written here, the uppermost first."""
        return (self._stack.upper, *self._stack.trees)

    def take_out(self, files: Iterable[str], folders: Iterable[str]) -> None:
        """Remove files, and folders that are empty, which were put here."""
        self._files.take_out(self._stack, files, folders)

    def find(self, *paths: str, follow: bool = True) -> list[Entry | None]:
        """Return what is at each of the absolute paths; None where nothing is."""
        return self._files.find(self._stack, paths, follow=follow)

    def destination(self, path: str) -> str:
        """Return `path` without links, as far as it exists."""
        return self._files.destination(self._stack, path)

    def read(self, path: str) -> bytes:
        """Return the content of a file. Raises FileNotFoundError, or IsADirectoryError where it is something else."""
        with self._files.open(self._stack, path) as file:
            return file.read()

    def read_text(self, path: str) -> str:
        """Return the content of a small text file; nothing where there is none."""
        try:
            return self.read(path).decode("utf-8", "replace")
        except OSError:
            return ""


def _upper(stack: Stack) -> Upper:
    return Upper(stack.upper, stack.trees)
