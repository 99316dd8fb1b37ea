"""Put files into the upper folder of an overlay that is not mounted, as if a container had written them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pytest_imagebuild.engines.embedded.view import OPAQUE, Found, MergedView, copy_status
from pytest_imagebuild.engines.entries import FILE_TIME, FileEntry, tar_entries, write_entry
from pytest_imagebuild.errors import EngineError

__all__ = ["Upper"]


class Upper:
    """An upper folder over `trees`, the uppermost first."""

    def __init__(self, folder: Path, trees: Iterable[Path]) -> None:
        self.folder = folder
        self.view = MergedView((folder, *trees))

    def put(self, files: Iterable[FileEntry]) -> None:
        """Write `files`, and the folders above them that are missing, owned by root and of one fixed time."""
        made: list[str] = []
        for entry in tar_entries(files):
            target = self._target(entry.path, made)
            write_entry(entry, target, f"to {entry.path}")
        self._set_time(made)

    def make_folder(self, path: str) -> list[str]:
        """Have a folder at `path`; return the folders that were made, the uppermost first."""
        made: list[str] = []
        at = PurePosixPath("/")
        for part in PurePosixPath(self.view.destination(path)).parts[1:]:
            at /= part
            found = self.view.find(str(at), follow=False)
            if found is not None and not found.is_folder:
                raise EngineError(f"{path} cannot be made: {at} in the image is not a folder")
            if found is None:
                made.append(str(at))
            self._have(at, found)
        self._set_time(made)
        return made

    def remove(self, files: Iterable[str], folders: Iterable[str]) -> None:
        """Remove files, and folders that are empty, which were put here."""
        for path in files:
            self._real(path).unlink(missing_ok=True)
        for path in folders:
            with contextlib.suppress(OSError):
                self._real(path).rmdir()

    def _target(self, path: str, made: list[str]) -> Path:
        destination = self.view.destination(path)
        found = self.view.find(destination, follow=False)
        if found is not None and found.is_folder:
            raise EngineError(f"{path} cannot be written: it is a folder in the image")
        made += self.make_folder(str(PurePosixPath(destination).parent))
        target = self._real(destination)
        # What is there may be a whiteout, or a file that a hard link shares.
        target.unlink(missing_ok=True)
        return target

    def _set_time(self, folders: Iterable[str]) -> None:
        for folder in folders:
            os.utime(self._real(folder), (FILE_TIME, FILE_TIME))

    def _have(self, at: PurePosixPath, found: Found | None) -> None:
        folder = self._real(str(at))
        if found is not None and found.real == folder:
            return
        hides = os.path.lexists(folder)
        if hides:
            folder.unlink()
        folder.mkdir()
        if found is not None:
            copy_status(found.real, folder)
        elif hides:
            # A whiteout was here, and what it hid stays hidden.
            os.setxattr(folder, OPAQUE, b"y")
            folder.chmod(0o755)
        else:
            folder.chmod(0o755)

    def _real(self, path: str) -> Path:
        return self.folder / path.lstrip("/")
