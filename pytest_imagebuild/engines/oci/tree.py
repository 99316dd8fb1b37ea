"""Writes the entries of one layer below one folder, in the form that overlayfs reads. Standard library only.

Every operation is relative to an open folder, and every folder is opened component by component without following
a symlink, so nothing outside is reached, whatever the entries say (openat(2), O_NOFOLLOW). Entries that were written
by the same layer may be replaced by later ones; a folder is writable until `finish`, which gives all their modes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator

from pytest_imagebuild.engines.oci.tarstream import Entry, TarError

__all__ = ["Tree", "clear"]

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPAQUE = "user.overlay.opaque"
_MOST_PATH = 4096
_MOST_NAME = 255
_MOST_DEPTH = 256
_MOST_TIME = 2**34 * 10**9
_NOBODY_HAS = 2**32 - 1
# What the file system, or the namespace, does not let this process set.
_NOT_KEPT = (errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOTSUP, errno.ERANGE, errno.E2BIG)

Path = tuple[bytes, ...]


class Tree:
    """One layer on disk. `left_out` counts by name what was not kept: `devices`, `attributes`, `owners`."""

    def __init__(self, root: int, *, keep_owners: bool) -> None:
        self._root = root
        self._keep_owners = keep_owners
        self._open: list[tuple[bytes, int]] = []
        self._folders: dict[Path, Entry | None] = {(): None}
        self._devices: set[Path] = set()
        self.left_out = {"devices": 0, "attributes": 0, "owners": 0}

    def add(self, entry: Entry, content: Iterable[tuple[int, bytes]]) -> None:
        """Write one entry. Raises TarError when it is hostile or damaged, OSError when the disk refuses."""
        path = _checked(entry.name)
        if any(part.startswith(b".wh..wh.") and part != b".wh..wh..opq" for part in path):
            return  # what aufs kept for itself
        if any(part.startswith(b".wh.") for part in path[:-1]):
            raise TarError(f"{entry.name!r} is below a whiteout")
        if not path:
            if not entry.is_folder:
                raise TarError(f"{entry.name!r} names the root, but is no folder")
            self._folders[path] = entry
        elif path[-1] == b".wh..wh..opq":
            self._set_opaque(self._folder(path[:-1]))
        elif path[-1].startswith(b".wh."):
            self._white_out(path[:-1], path[-1][4:], entry)
        elif entry.is_folder:
            self._folder(path, replace=True)
            self._folders[path] = entry
        else:
            self._add_other(path, entry, content)

    def finish(self) -> None:
        """Give the folders their modes, times and owners: the deepest first, as it cannot enter them later."""
        for path in sorted(self._folders, reverse=True):
            try:
                folder = self._folder(path, create=False)
            except (TarError, FileNotFoundError):
                continue  # a later entry has taken its place
            entry = self._folders[path]
            if entry is None:
                # Nothing is said of a folder that only entries below it name.
                os.fchmod(folder, 0o755)
                os.utime(folder, ns=(0, 0))
            else:
                self._describe(folder, entry)

    def close(self) -> None:
        """Close what is open. Calling it again does nothing."""
        self._close_below(0)

    def _add_other(self, path: Path, entry: Entry, content: Iterable[tuple[int, bytes]]) -> None:
        if entry.is_device:
            self._devices.add(path)
            self.left_out["devices"] += 1
            return
        if entry.is_hardlink:
            self._link(path, entry)
            return
        folder, name = self._folder(path[:-1]), path[-1]
        if entry.is_symlink:
            self._symlink(folder, name, entry)
        elif entry.is_fifo:
            self._make(folder, name, lambda: os.mkfifo(name, 0o600, dir_fd=folder))
            with _opened(os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=folder)) as fifo:
                self._describe(fifo, entry)
        else:
            with _opened(self._make(folder, name, lambda: os.open(name, _NEW_FILE, 0o600, dir_fd=folder))) as file:
                _write(file, entry, content)
                self._describe(file, entry)

    def _symlink(self, folder: int, name: bytes, entry: Entry) -> None:
        if not entry.link or b"\0" in entry.link or len(entry.link) >= _MOST_PATH:
            raise TarError(f"the symlink {entry.name!r} has a target that no file system holds")
        self._make(folder, name, lambda: os.symlink(entry.link, name, dir_fd=folder))
        if self._keep_owners:
            self._own(lambda: os.chown(name, *_owners(entry), dir_fd=folder, follow_symlinks=False))
        self.left_out["attributes"] += len(entry.attributes)
        os.utime(name, ns=_times(entry), dir_fd=folder, follow_symlinks=False)

    def _link(self, path: Path, entry: Entry) -> None:
        target = _checked(entry.link)
        if target in self._devices:
            self.left_out["devices"] += 1
            return
        if target == path or not target:
            raise TarError(f"the hard link {entry.name!r} points to itself or to the root")
        try:
            # Opening the second folder may close the first.
            source = os.dup(self._folder(target[:-1], create=False))
        except FileNotFoundError:
            raise _no_target(entry) from None
        with _opened(source):
            self._check_linked(source, target[-1], entry)
            folder, name = self._folder(path[:-1]), path[-1]
            self._make(folder, name, lambda: _link(source, target[-1], folder, name, entry))

    def _check_linked(self, source: int, name: bytes, entry: Entry) -> None:
        try:
            found = os.stat(name, dir_fd=source, follow_symlinks=False).st_mode
        except FileNotFoundError:
            raise _no_target(entry) from None
        if not (stat.S_ISREG(found) or stat.S_ISLNK(found) or stat.S_ISFIFO(found)):
            raise TarError(f"the hard link {entry.name!r} points to {entry.link!r}, which is no file")

    def _white_out(self, parent: Path, name: bytes, entry: Entry) -> None:
        if name in (b"", b".", b".."):
            raise TarError(f"the whiteout {entry.name!r} points outside of its folder")
        folder = self._folder(parent)
        try:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=folder)
        except FileExistsError:
            # What this layer has itself is not removed, but a folder no longer shows what is below it.
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                self._set_opaque(self._folder((*parent, name)))

    def _folder(self, path: Path, *, create: bool = True, replace: bool = False) -> int:
        """Return the open folder of a path. What is in its place goes only with `replace`, and only at its end."""
        same = 0
        while same < min(len(self._open), len(path)) and self._open[same][0] == path[same]:
            same += 1
        self._close_below(same)
        for depth in range(same, len(path)):
            is_last = depth == len(path) - 1
            opened = self._enter(path[: depth + 1], create=create, replace=replace and is_last)
            self._open.append((path[depth], opened))
        return self._open[-1][1] if self._open else self._root

    def _enter(self, path: Path, *, create: bool, replace: bool) -> int:
        parent, name = self._open[-1][1] if self._open else self._root, path[-1]
        try:
            return os.open(name, _OPEN_FOLDER, dir_fd=parent)
        except FileNotFoundError:
            if not create:
                raise
            is_whiteout = False
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            is_whiteout = stat.S_ISCHR(found.st_mode)
            if not create or not (replace or is_whiteout):
                raise TarError(f"{b'/'.join(path)!r} is no folder, but entries go through it") from None
            os.unlink(name, dir_fd=parent)
        os.mkdir(name, 0o700, dir_fd=parent)
        self._folders.setdefault(path, None)
        opened = os.open(name, _OPEN_FOLDER, dir_fd=parent)
        if is_whiteout:
            self._set_opaque(opened)
        return opened

    def _make(self, folder: int, name: bytes, make: Callable[[], int | None]) -> int:
        try:
            made = make()
        except FileExistsError:
            _remove(folder, name)
            made = make()
        return made or 0

    def _describe(self, opened: int, entry: Entry) -> None:
        # A change of the owner clears set-uid and capabilities; a change of the content would too.
        if self._keep_owners:
            self._own(lambda: os.fchown(opened, *_owners(entry)))
        for name, value in entry.attributes.items():
            self._set_attribute(opened, name, value)
        os.fchmod(opened, entry.mode & 0o7777)
        os.utime(opened, ns=_times(entry))

    def _own(self, change: Callable[[], None]) -> None:
        try:
            change()
        except OSError as error:
            if error.errno not in _NOT_KEPT:
                raise
            self.left_out["owners"] += 1

    def _set_attribute(self, opened: int, name: bytes, value: bytes) -> None:
        # An attribute of the overlay's own would tell the kernel where to look for a file.
        may = not name.startswith((b"user.overlay.", b"trusted.")) and (self._keep_owners or name.startswith(b"user."))
        try:
            if may and b"\0" not in name:
                os.setxattr(opened, name, value)
                return
        except OSError as error:
            if error.errno not in _NOT_KEPT:
                raise
        self.left_out["attributes"] += 1

    def _set_opaque(self, folder: int) -> None:
        try:
            os.setxattr(folder, _OPAQUE, b"y")
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            message = "its opaque folders need user attributes, which the file system of the cache folder does not keep"
            raise OSError(error.errno, message) from error

    def _close_below(self, depth: int) -> None:
        while len(self._open) > depth:
            os.close(self._open.pop()[1])


def _link(source: int, old: bytes, folder: int, new: bytes, entry: Entry) -> None:
    try:
        os.link(old, new, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        # It was below the folder whose place the new name takes.
        raise _no_target(entry) from None


def clear(folder: int) -> None:
    """Remove all that is in an open folder; modes are no obstacle to its owner."""
    for name in os.listdir(folder):
        _remove(folder, os.fsencode(name))


def _remove(folder: int, name: bytes) -> None:
    if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=folder)
        return
    try:
        inner = os.open(name, _OPEN_FOLDER, dir_fd=folder)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=folder)
        inner = os.open(name, _OPEN_FOLDER, dir_fd=folder)
    with _opened(inner):
        with contextlib.suppress(PermissionError):
            os.fchmod(inner, 0o700)
        clear(inner)
    os.rmdir(name, dir_fd=folder)


def _write(file: int, entry: Entry, content: Iterable[tuple[int, bytes]]) -> None:
    for offset, part in content:
        view, at = memoryview(part), offset
        while view:
            written = os.pwrite(file, view, at)
            view, at = view[written:], at + written
    if entry.is_sparse:
        os.ftruncate(file, entry.size)


def _checked(name: bytes) -> Path:
    """Return the components of a name; a leading slash means the root of the layer."""
    path = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
    if b".." in path:
        raise TarError(f"{name!r} leads upwards")
    if b"\0" in name:
        raise TarError(f"{name[:80]!r} has a NUL byte")
    if len(name) > _MOST_PATH or len(path) > _MOST_DEPTH or any(len(part) > _MOST_NAME for part in path):
        raise TarError(f"{name[:80]!r}... is longer or deeper than a file system holds")
    return path


def _owners(entry: Entry) -> tuple[int, int]:
    if not (0 <= entry.uid < _NOBODY_HAS and 0 <= entry.gid < _NOBODY_HAS):
        raise TarError(f"{entry.name!r} belongs to {entry.uid}:{entry.gid}, which no one can be")
    return entry.uid, entry.gid


def _times(entry: Entry) -> tuple[int, int]:
    time = max(-_MOST_TIME, min(entry.mtime, _MOST_TIME))
    return time, time


def _no_target(entry: Entry) -> TarError:
    return TarError(f"the hard link {entry.name!r} points to {entry.link!r}, which its layer does not have")


@contextlib.contextmanager
def _opened(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
