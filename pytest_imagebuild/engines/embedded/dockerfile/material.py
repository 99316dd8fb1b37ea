"""What a Dockerfile copies that is in no image: its build context, its here-documents, and what it downloads."""

from __future__ import annotations

import hashlib
import itertools
import os
import posixpath
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path

from pytest_imagebuild.engines.context_folder import write_context
from pytest_imagebuild.engines.entries import FILE_TIME, FileEntry
from pytest_imagebuild.errors import EngineError

__all__ = ["Material"]

_SECONDS = 60
_CHUNK = 1 << 20


class Material:
    """Files below one folder that is gone afterwards."""

    def __init__(self, folder: Path, context: Sequence[FileEntry]) -> None:
        self.folder = folder
        self._entries = context
        self._context: Path | None = None
        self._numbers = itertools.count(1)

    def context(self) -> Path:
        """Return the folder of the build context, made at the first call."""
        if self._context is None:
            self._context = self.new_folder()
            write_context(self._context, self._entries)
        return self._context

    def new_folder(self) -> Path:
        """Make an empty folder."""
        folder = self.folder / f"material-{next(self._numbers)}"
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)
        return folder

    def document(self, name: str, text: str, mode: int = 0o644) -> Path:
        """Write a here-document; return the folder that it is in."""
        folder = self.new_folder()
        write_context(folder, [FileEntry(path=f"/{name}", mode=mode, data=text.encode("utf-8", "surrogateescape"))])
        return folder

    def download(self, url: str, checksum: str) -> tuple[Path, str]:
        """Fetch a file; return the folder that it is in, and its name. Raises EngineError."""
        name = posixpath.basename(urllib.parse.urlsplit(url).path)
        if not name:
            raise EngineError(f"{url} names no file")
        folder = self.new_folder()
        digest = hashlib.sha256()
        shown = urllib.parse.urlsplit(url)._replace(query="", fragment="").geturl()
        try:
            request = urllib.request.Request(url)  # noqa: S310 - only http and https come here
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer, (folder / name).open("wb") as file:  # noqa: S310
                while part := answer.read(_CHUNK):
                    digest.update(part)
                    file.write(part)
                modified = answer.headers.get("Last-Modified")
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise EngineError(f"{shown} cannot be fetched: {error}") from error
        found = f"sha256:{digest.hexdigest()}"
        if checksum and found != checksum:
            raise EngineError(f"{shown} has the checksum {found}, and {checksum} was asked for")
        when = parsedate_to_datetime(modified).timestamp() if modified else FILE_TIME
        os.utime(folder / name, (when, when))
        (folder / name).chmod(0o600)
        return folder, name
