"""Packs one folder in the form that overlayfs reads as one layer: what `unpack.py` does, the other way round.

It imports the standard library, and what it needs of this package by path, and may run in a user namespace. The
character device 0:0 becomes a whiteout, the attribute `user.overlay.opaque` an opaque whiteout (OCI image
specification, layer.md). The same folder gives the same bytes: entries are sorted, and nothing of this machine is in
them.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from pytest_imagebuild.engines.oci.tarstream import Entry
from pytest_imagebuild.engines.oci.tarwriter import END, header, padding
from pytest_imagebuild.errors import EngineError

__all__ = ["pack"]

_CHUNK = 1024 * 1024
_WHITEOUT = b".wh."
_OPAQUE_NAME = b".wh..wh..opq"
_OPAQUE = "user.overlay.opaque"
_CAPABILITY = "security.capability"
# linux/capability.h: the third revision ends with the root of a user namespace, the second is that of the machine.
_REVISION_3, _REVISION_2 = 0x03000000, 0x02000000
_KINDS = {
    stat.S_IFREG: b"0",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}


def pack(tree: Path, target: int, *, keep_owners: bool) -> None:
    """Write the layer to the open file `target`, from where it stands.

    Without `keep_owners`, all of it belongs to root: the folder holds files of one user only. Raises OSError, and
    EngineError for a name that a layer cannot hold.
    """
    with os.fdopen(os.dup(target), "wb", buffering=_CHUNK) as file:
        _Packing(file, keep_owners=keep_owners).all(os.fsencode(tree))
        file.write(END)


class _Packing:
    """One layer on its way."""

    def __init__(self, file: IO[bytes], *, keep_owners: bool) -> None:
        self._file = file
        self._keep_owners = keep_owners
        self._linked: dict[tuple[int, int], bytes] = {}

    def all(self, tree: bytes) -> None:
        # A list of what is still to do, as a tree may be deeper than Python's stack.
        waiting = [(tree, b"")]
        while waiting:
            real, name = waiting.pop()
            status = os.lstat(real)
            if stat.S_ISDIR(status.st_mode):
                with self._open(real, status, os.O_DIRECTORY) as folder:
                    self._add_folder(folder, name, status)
                    names = sorted(map(os.fsencode, os.listdir(folder)), reverse=True)  # noqa: PTH208 - an open folder
                waiting += [(real + b"/" + one, name + b"/" + one if name else one) for one in names]
            else:
                self._add(real, name, status)

    def _add_folder(self, folder: int, name: bytes, status: os.stat_result) -> None:
        self._refuse(name)
        self._entry(name + b"/" if name else b"./", status, attributes=_attributes(folder))
        if _is_opaque(folder):
            self._mark(name + b"/" + _OPAQUE_NAME if name else _OPAQUE_NAME)

    def _add(self, real: bytes, name: bytes, status: os.stat_result) -> None:
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFCHR and status.st_rdev == 0:
            folder, slash, last = name.rpartition(b"/")
            self._mark(folder + slash + _WHITEOUT + last)
            return
        if kind == stat.S_IFSOCK:
            return  # it is one process's own, and no layer holds it
        self._refuse(name)
        inode = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and inode in self._linked:
            self._entry(name, status, kind=b"1", link=self._linked[inode])
            return
        self._linked[inode] = name
        if kind == stat.S_IFLNK:
            self._entry(name, status, link=os.readlink(real))  # noqa: PTH115 - names are bytes
        elif kind == stat.S_IFREG:
            with self._open(real, status) as file:
                self._entry(name, status, size=status.st_size, attributes=_attributes(file))
                self._copy(file, name, status.st_size)
        else:
            self._entry(name, status)

    def _entry(
        self,
        name: bytes,
        status: os.stat_result,
        *,
        kind: bytes = b"",
        link: bytes = b"",
        size: int = 0,
        attributes: Mapping[bytes, bytes] | None = None,
    ) -> None:
        entry = Entry(
            name=name,
            kind=kind or _KINDS[stat.S_IFMT(status.st_mode)],
            link=link,
            size=size,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid if self._keep_owners else 0,
            gid=status.st_gid if self._keep_owners else 0,
            mtime=status.st_mtime_ns,
            attributes=attributes or {},
        )
        self._file.write(header(entry, (os.major(status.st_rdev), os.minor(status.st_rdev))))

    def _mark(self, name: bytes) -> None:
        mark = Entry(name=name, kind=b"0", link=b"", size=0, mode=0, uid=0, gid=0, mtime=0, attributes={})
        self._file.write(header(mark))

    def _copy(self, file: int, name: bytes, size: int) -> None:
        left = size
        while left:
            part = os.read(file, min(left, _CHUNK))
            if not part:
                raise EngineError(f"the layer is damaged: {os.fsdecode(name)} is shorter than it was")
            self._file.write(part)
            left -= len(part)
        self._file.write(padding(size))

    def _refuse(self, name: bytes) -> None:
        if name.rpartition(b"/")[2].startswith(_WHITEOUT):
            raise EngineError(
                f"the image has /{os.fsdecode(name)}, and a name that begins with '.wh.' says in an archive that "
                "something is removed. Rename it in a later step."
            )

    @contextlib.contextmanager
    def _open(self, real: bytes, status: os.stat_result, flags: int = 0) -> Iterator[int]:
        flags |= os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            opened = os.open(real, flags)
        except PermissionError:
            # Root of a container may read what its own user may not. The mode is back before anything is read.
            os.chmod(real, stat.S_IMODE(status.st_mode) | stat.S_IRUSR)  # noqa: PTH101 - names are bytes
            try:
                opened = os.open(real, flags)
            finally:
                os.chmod(real, stat.S_IMODE(status.st_mode))  # noqa: PTH101 - names are bytes
        try:
            yield opened
        finally:
            os.close(opened)


def _is_opaque(folder: int) -> bool:
    try:
        return os.getxattr(folder, _OPAQUE) in (b"y", b"x")
    except OSError:
        return False


def _attributes(opened: int) -> dict[bytes, bytes]:
    """Return what of its extended attributes is the image's own: capabilities, and those of users."""
    kept = {}
    for name in os.listxattr(opened):
        if name == _CAPABILITY:
            kept[name.encode()] = _capability(os.getxattr(opened, name))
        elif name.startswith("user.") and not name.startswith("user.overlay."):
            kept[os.fsencode(name)] = os.getxattr(opened, name)
    return kept


def _capability(value: bytes) -> bytes:
    head = int.from_bytes(value[:4], "little")
    if head & 0xFF000000 != _REVISION_3:
        return value
    return (head & 0x00FFFFFF | _REVISION_2).to_bytes(4, "little") + value[4:-4]
