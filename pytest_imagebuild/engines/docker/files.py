"""Put files into a container that does not run, by one streamed tar archive."""

from __future__ import annotations

import base64
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from docker.errors import APIError

from pytest_imagebuild.engines.docker.connection import engine_errors
from pytest_imagebuild.engines.entries import FILE_TIME, FileEntry, tar_entries
from pytest_imagebuild.errors import EngineError

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["context_archive", "exists", "missing_folders", "put"]

_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 1024 * 1024


def put(api: APIClient, container: str, folders: Sequence[str], files: Iterable[FileEntry]) -> None:
    """Make `folders` (parents first, mode 755) and write `files`, all owned by root and of one fixed time."""
    archive = _gathered(_tar(folders, files))
    with engine_errors("put files into a container"):
        api.put_archive(container, "/", archive)


def context_archive(entries: Iterable[FileEntry]) -> Iterator[bytes]:
    """Return a build context as an archive; a path that ends with a slash is a folder."""
    entries = list(entries)
    folders = [entry.path for entry in entries if entry.path.endswith("/")]
    return _gathered(_tar(folders, (entry for entry in entries if not entry.path.endswith("/"))))


def missing_folders(api: APIClient, container: str, wanted: Iterable[str]) -> list[str]:
    """Return those of `wanted` and of their parents that the container lacks, parents first.

    A folder that is there must not be in the archive: its mode and owner would be changed.
    """
    known: dict[str, bool] = {"/": True}
    for path in sorted({str(PurePosixPath("/") / path) for path in wanted}):
        for folder in (*reversed(PurePosixPath(path).parents), PurePosixPath(path)):
            if str(folder) not in known:
                known[str(folder)] = known[str(folder.parent)] and exists(api, container, str(folder))
    return sorted(folder for folder, there in known.items() if not there)


def exists(api: APIClient, container: str, path: str) -> bool:
    """Say whether the container has something at `path`."""
    return stat(api, container, path) is not None


def stat(api: APIClient, container: str, path: str) -> dict[str, Any] | None:
    """Return what Docker knows of a path (`name`, `size`, `mode` as of Go, `linkTarget`); None where nothing is."""
    url = f"{api.base_url}/v{api.api_version}/containers/{container}/archive"
    with engine_errors("look into a container"):
        response = api.head(url, params={"path": path}, timeout=api.timeout)
        if response.status_code == 404:
            return None
        if response.status_code != 200:
            raise APIError(f"it answered {response.status_code}", response=response)
    found = json.loads(base64.b64decode(response.headers["X-Docker-Container-Path-Stat"]))
    return found if isinstance(found, dict) else {}


def _tar(folders: Sequence[str], files: Iterable[FileEntry]) -> Iterator[bytes]:
    for folder in folders:
        yield _member(folder, tarfile.DIRTYPE, 0o755, 0)
    for entry in tar_entries(files):
        if entry.data is not None:
            yield _member(entry.path, tarfile.REGTYPE, entry.mode, len(entry.data))
            yield entry.data
            yield bytes(-len(entry.data) % _BLOCK)
        else:
            yield from _streamed(entry)
    yield bytes(2 * _BLOCK)


def _member(path: str, kind: bytes, mode: int, size: int) -> bytes:
    member = tarfile.TarInfo(path.lstrip("/"))
    member.type, member.mode, member.size, member.mtime = kind, mode & 0o7777, size, FILE_TIME
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _streamed(entry: FileEntry) -> Iterator[bytes]:
    if entry.source is None:
        raise EngineError(f"{entry.path} has neither a source nor data")
    try:
        with entry.source.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            yield _member(entry.path, tarfile.REGTYPE, entry.mode, size)
            left = size
            while left:
                part = file.read(min(_CHUNK, left))
                if not part:
                    raise EngineError(f"{entry.source} became shorter while it was read")
                left -= len(part)
                yield part
            yield bytes(-size % _BLOCK)
    except OSError as error:
        raise EngineError(f"{entry.source} cannot be read: {error}") from error


def _gathered(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Join small parts: each becomes a chunk of HTTP of its own."""
    waiting = bytearray()
    for part in parts:
        waiting += part
        if len(waiting) >= _CHUNK:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)
