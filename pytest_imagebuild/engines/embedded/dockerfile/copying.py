"""Copy files into the upper folder of an overlay that is not mounted, as `COPY` and `ADD` do.

It may run in the process that works on files of subordinate ids, so what is asked for is plain: `CopyRequest`.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import posixpath
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pytest_imagebuild.dockerfile.glob import has_wildcard, matches
from pytest_imagebuild.engines.embedded.place import Upper
from pytest_imagebuild.engines.embedded.view import Found, MergedView
from pytest_imagebuild.errors import EngineError

__all__ = ["CopyRequest", "copy"]

CopyRequest = Mapping[str, Any]
"""`sources` are pairs of trees, the uppermost first, and a path in them that may be a pattern.

`destination` is absolute; `into` says that it is a folder. `owner` is a user and a group, or None for that of each
source; `asked_owner` is one that was written; `mode` is for every file, or None for that of each. With `unpack`,
archives are unpacked; `scratch` is a folder on the same file system for that.
"""

_OVERLAY = "user.overlay."
_READERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}


def copy(folder: Path, trees: Sequence[Path], request: CopyRequest, *, keep_owners: bool) -> None:
    """Copy as a request says into the upper `folder` over `trees`. Raises EngineError."""
    copier = _Copier(folder, trees, request, keep_owners=keep_owners)
    for tree, path in request["sources"]:
        copier.source(MergedView([Path(part) for part in tree]), path)


class _Copier(Upper):
    def __init__(self, folder: Path, trees: Sequence[Path], request: CopyRequest, *, keep_owners: bool) -> None:
        super().__init__(folder, trees)
        self._request = request
        self._keep_owners = keep_owners
        self._owner: Sequence[int] | None = request["owner"]
        self._links: dict[tuple[int, int], Path] = {}

    def source(self, view: MergedView, path: str) -> None:
        found = _matching(view, path)
        if not found and not has_wildcard(path):
            raise EngineError(f"{path}: there is no such file or folder")
        for item in found:
            name = PurePosixPath(item.asked).name
            archive = _Archive.of(item.found) if self._request["unpack"] else None
            if archive is None:
                self._put(view, item.found, name)
            else:
                self._unpack(archive)

    def _put(self, view: MergedView, found: Found, name: str) -> None:
        asked = self._request["destination"]
        there = self.view.find(asked)
        destination = self.view.destination(asked)
        if found.is_folder:
            self._folder(destination)
            self._children(view, found, destination)
            return
        if self._request["into"] or (there is not None and there.is_folder):
            destination = self.view.destination(posixpath.join(destination, name))
        self._folder(str(PurePosixPath(destination).parent))
        self._entry(found, destination)

    def _folder(self, path: str) -> None:
        for made in self.make_folder(path):
            self._own(self._real(made), self._owner or (0, 0))

    def _children(self, view: MergedView, folder: Found, destination: str) -> None:
        for name, found in view.children(folder):
            target = posixpath.join(destination, name)
            if not found.is_folder:
                self._entry(found, target)
                continue
            there = self.view.find(target, follow=False)
            if there is not None and not there.is_folder:
                raise EngineError(f"{target}: a folder cannot take the place of a file")
            self.make_folder(target)
            self._children(view, found, target)
            self._describe(found, self._real(target))

    def _entry(self, found: Found, path: str) -> None:
        there = self.view.find(path, follow=False)
        if there is not None and there.is_folder:
            raise EngineError(f"{path}: a file cannot take the place of a folder")
        self.make_folder(str(PurePosixPath(path).parent))
        target = self._real(path)
        with contextlib.suppress(FileNotFoundError):
            target.unlink()
        mode = found.status.st_mode
        first = self._links.get((found.status.st_dev, found.status.st_ino))
        if first is not None and stat.S_ISREG(mode):
            os.link(first, target)
            return
        if stat.S_ISLNK(mode):
            target.symlink_to(os.readlink(found.real))  # noqa: PTH115 - a Path would lose a slash at the end
        elif stat.S_ISREG(mode):
            shutil.copyfile(found.real, target)
            if found.status.st_nlink > 1:
                self._links[found.status.st_dev, found.status.st_ino] = target
        elif stat.S_ISFIFO(mode):
            os.mkfifo(target)
        else:
            return  # a socket, or a device, which nobody may make
        self._describe(found, target)

    def _describe(self, found: Found, target: Path) -> None:
        status = found.status
        self._own(target, self._owner or (status.st_uid, status.st_gid))
        for name in os.listxattr(found.real, follow_symlinks=False):
            if not name.startswith(_OVERLAY):
                with contextlib.suppress(OSError):
                    value = os.getxattr(found.real, name, follow_symlinks=False)
                    os.setxattr(target, name, value, follow_symlinks=False)
        if not target.is_symlink():
            mode = self._request["mode"]
            target.chmod(stat.S_IMODE(status.st_mode) if mode is None else mode)
        os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns), follow_symlinks=False)

    def _own(self, target: Path, owner: Sequence[int]) -> None:
        if self._keep_owners:
            os.chown(target, owner[0], owner[1], follow_symlinks=False)

    def _unpack(self, archive: _Archive) -> None:
        destination = self.view.destination(self._request["destination"])
        self._folder(destination)
        with tempfile.TemporaryDirectory(dir=self._request["scratch"], prefix="add-") as folder:
            archive.extract(Path(folder), keep_owners=self._keep_owners)
            view = MergedView([Path(folder)])
            # What an archive says of owners stays, unless others were asked for.
            owner, self._owner = self._owner, self._request["asked_owner"]
            self._children(view, view.root(), destination)
            self._owner = owner


class _Match:
    def __init__(self, asked: str, found: Found) -> None:
        self.asked = asked
        self.found = found


def _matching(view: MergedView, path: str) -> list[_Match]:
    """Return what a pattern names, by the path that was asked for; links are followed."""
    names = [""]
    for part in PurePosixPath("/", posixpath.normpath("/" + path)).parts[1:]:
        if has_wildcard(part):
            names = [f"{name}/{child}" for name in names for child in _children(view, name) if matches(part, child)]
        else:
            names = [f"{name}/{part}" for name in names]
    found = ((name, view.find(name or "/")) for name in names)
    return [_Match(name or "/", item) for name, item in found if item is not None]


def _children(view: MergedView, path: str) -> list[str]:
    folder = view.find(path or "/")
    return [name for name, _ in view.children(folder)] if folder is not None and folder.is_folder else []


class _Archive:
    """A tar archive, plain or compressed, as `ADD` unpacks it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def of(cls, found: Found) -> _Archive | None:
        """Return the archive that a file is; None where it is none."""
        if not stat.S_ISREG(found.status.st_mode) or not found.status.st_size:
            return None
        try:
            with cls(found.real).open() as file:
                tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
        except (tarfile.HeaderError, OSError, EOFError, lzma.LZMAError):
            return None
        return cls(found.real)

    def open(self) -> IO[bytes]:
        """Open it, uncompressed."""
        with self._path.open("rb") as file:
            head = file.read(6)
        reader = next((opener for magic, opener in _READERS.items() if head.startswith(magic)), None)
        return self._path.open("rb") if reader is None else reader(self._path, "rb")  # type: ignore[operator]

    def extract(self, folder: Path, *, keep_owners: bool) -> None:
        """Unpack it into an empty folder; nothing of it lands outside. Raises EngineError."""
        # Only an ADD of an archive needs it.
        from pytest_imagebuild.engines.oci.tarstream import Tar, TarError  # noqa: PLC0415
        from pytest_imagebuild.engines.oci.tree import Tree  # noqa: PLC0415

        root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with self.open() as file, contextlib.closing(Tree(root, keep_owners=keep_owners)) as tree:
                tar = Tar(file.read)
                for entry in tar:
                    tree.add(entry, tar.content())
                tree.finish()
        except (TarError, OSError, EOFError, lzma.LZMAError) as error:
            raise EngineError(f"{self._path.name} cannot be unpacked: {error}") from error
        finally:
            os.close(root)
