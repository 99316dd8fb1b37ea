"""Content-addressed files, shared by all images: each is named by its digest, and verified before it gets the name."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from filelock import FileLock

from pytest_imagebuild.errors import BaseImageError

__all__ = ["Blobs", "Partial", "Staged", "WrongContent", "checked_digest", "digest_of", "is_digest"]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CHUNK = 1024 * 1024


class WrongContent(Exception):
    """What was written is not what its digest names. `found` is the digest that it has."""

    def __init__(self, *, wanted: str, found: str) -> None:
        super().__init__(f"content with the digest {found} instead of {wanted}")
        self.found = found


def is_digest(text: object) -> bool:
    """Say whether `text` is a digest of the one kind that is known here."""
    return isinstance(text, str) and bool(_DIGEST.fullmatch(text))


def checked_digest(digest: object) -> str:
    """Return `digest` when it is one. Raises BaseImageError."""
    if not isinstance(digest, str) or not is_digest(digest):
        raise BaseImageError(
            f"{str(digest)[:80]!r} is not a digest that is known here: only sha256:<64 hexadecimal digits> is"
        )
    return digest


def digest_of(data: bytes) -> str:
    """Return the digest of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Blobs:
    """The files below one folder. Threads and processes may use it at the same time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute() / "sha256"

    def path(self, digest: str) -> Path:
        """Return where the content of `digest` is, or would be."""
        return self._folder / checked_digest(digest).removeprefix("sha256:")

    def has(self, digest: str) -> bool:
        """Say whether the content of `digest` is here, whole and verified."""
        return self.path(digest).is_file()

    def read(self, digest: str) -> bytes:
        """Return a small blob. Raises WrongContent when the file was changed since it was written."""
        data = self.path(digest).read_bytes()
        found = digest_of(data)
        if found != digest:
            raise WrongContent(wanted=digest, found=found)
        return data

    def add(self, data: bytes) -> str:
        """Keep `data` and return its digest."""
        with self.stage() as staged:
            staged.write(data)
            return staged.keep()

    def remove(self, digest: str) -> None:
        """Forget a blob, as one that was found damaged."""
        self.path(digest).unlink(missing_ok=True)

    def verify(self, digest: str) -> bool:
        """Say whether a blob is still what its digest names; one that is not is removed."""
        found = hashlib.sha256()
        try:
            with self.path(digest).open("rb") as file:
                while part := file.read(_CHUNK):
                    found.update(part)
        except FileNotFoundError:
            return False
        if f"sha256:{found.hexdigest()}" != digest:
            self.remove(digest)
            return False
        return True

    def lock(self, digest: str) -> FileLock:
        """Return the lock under which a blob is written."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path(digest).with_suffix(".lock"), thread_local=False)

    @contextlib.contextmanager
    def partial(self, digest: str, size: int) -> Iterator[Partial]:
        """Go on with an interrupted blob, or begin one. To be used under its lock."""
        with self.path(digest).with_suffix(".partial").open("ab+", buffering=0) as file:
            yield Partial(file, self.path(digest), digest, size)

    @contextlib.contextmanager
    def stage(self) -> Iterator[Staged]:
        """Begin a blob whose digest is not known yet. It is gone at the end of the block unless it was kept."""
        self._folder.mkdir(parents=True, exist_ok=True)
        staged = Staged(self._folder)
        try:
            yield staged
        finally:
            staged.discard()


class Partial:
    """A blob on its way. It stays beside its later name when it is left unfinished."""

    def __init__(self, file: FileIO, path: Path, digest: str, size: int) -> None:
        self._file = file
        self._path = path
        self._digest = digest
        self.wanted = size
        self._hash = hashlib.sha256()
        self._file.seek(0)
        while part := self._file.read(_CHUNK):
            self._hash.update(part)
        self.size = self._file.tell()
        self.was_resumed = self.size > 0
        if self.size > size:
            self.restart()

    def write(self, data: bytes) -> None:
        """Append `data`. Raises WrongContent as soon as there is more than there should be."""
        if self.size + len(data) > self.wanted:
            self.restart()
            raise WrongContent(wanted=self._digest, found=f"of more than {self.wanted} bytes")
        _write(self._file, data)
        self._hash.update(data)
        self.size += len(data)

    def restart(self) -> None:
        """Forget what is there."""
        self._file.truncate(0)
        self._hash = hashlib.sha256()
        self.size = 0
        self.was_resumed = False

    def finish(self) -> None:
        """Verify the whole and give it its name. Raises WrongContent, and forgets what is there."""
        found = f"sha256:{self._hash.hexdigest()}"
        if found != self._digest:
            self.restart()
            raise WrongContent(wanted=self._digest, found=found)
        Path(self._file.name).replace(self._path)


class Staged:
    """A blob without a name. First it is written, then `seal`ed, then read and kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        handle, name = tempfile.mkstemp(dir=folder, prefix="new-")
        os.close(handle)
        self._path = Path(name)
        self._file = self._path.open("wb", buffering=0)
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        """The digest of what was written so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, data: bytes) -> None:
        """Append `data`."""
        _write(self._file, data)
        self._hash.update(data)
        self.size += len(data)

    def seal(self) -> None:
        """End the writing."""
        self._file.close()

    def read(self, length: int = -1) -> bytes:
        """Return the first `length` bytes, or all."""
        with self._path.open("rb") as file:
            return file.read(length)

    def keep(self) -> str:
        """Give it the name of its digest, and return that."""
        self.seal()
        with contextlib.suppress(FileNotFoundError):  # it is kept already
            self._path.replace(self._folder / self.digest.removeprefix("sha256:"))
        return self.digest

    def discard(self) -> None:
        """Remove it unless it was kept. Calling it again does nothing."""
        self.seal()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


def _write(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        message = (
            f"content cannot be written to {file.name}: {error.strerror}. Make room, or choose another cache folder "
            "with IMAGEBUILD_CACHE_DIR."
        )
        raise BaseImageError(message) from error
