"""Uncompresses a layer in a thread of its own, and computes its digest meanwhile. Standard library only.

What packed a layer is told by its first bytes, as Docker does it: media types are wrong too often.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import shutil
import subprocess
import threading
import zlib
from collections.abc import Generator, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import IO

from pytest_imagebuild.errors import BaseImageError

__all__ = ["GZIP", "ZSTD", "Inflated", "plain"]

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
_CHUNK = 512 * 1024
_AHEAD = 8


class Inflated:
    """The uncompressed bytes of a file, as `read` gives them. Raises BaseImageError when they are damaged.

    `limit` is the most bytes that may come. To be used in a `with contextlib.closing` block.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._limit = limit
        self._hash = hashlib.sha256()
        self._chunks: queue.Queue[bytes | BaseException] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self._chunk = b""
        self._at = 0
        self._thread = threading.Thread(target=self._produce, args=(path,), name="imagebuild-inflate", daemon=True)
        self._thread.start()

    def read(self, size: int) -> bytes:
        """Return 1 to `size` bytes, b"" at the end."""
        if self._at == len(self._chunk) and not self._next():
            return b""
        part = self._chunk[self._at : self._at + size]
        self._at += len(part)
        return part

    def finish(self) -> str:
        """Read to the end, and return the digest of the whole."""
        self._at = len(self._chunk)
        while self._next():
            self._at = len(self._chunk)
        return f"sha256:{self._hash.hexdigest()}"

    def close(self) -> None:
        """End the thread. Calling it again does nothing."""
        self._stop.set()
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                self._chunks.get(timeout=0.01)
        self._chunks = queue.Queue()
        self._chunks.put(b"")

    def _next(self) -> bool:
        item = self._chunks.get()
        if isinstance(item, BaseException):
            self._chunks.put(item)
            raise item
        if not item:
            self._chunks.put(b"")
        self._chunk, self._at = item, 0
        return bool(item)

    def _produce(self, path: Path) -> None:
        try:
            with contextlib.closing(_bounded(plain(path), self._limit)) as chunks:
                for chunk in chunks:
                    self._hash.update(chunk)
                    if not self._put(chunk):
                        return
            self._put(b"")
        except BaseException as error:  # noqa: BLE001 - it is raised where the bytes are read
            self._put(error)

    def _put(self, item: bytes | BaseException) -> bool:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._chunks.put(item, timeout=0.1)
                return True
        return False


def plain(path: Path) -> Generator[bytes, None, None]:
    """Yield the uncompressed content of a file, in bounded parts."""
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        if start[:2] == GZIP:
            yield from _gunzip(file)
        elif start == ZSTD:
            yield from _unzstd(path, file)
        else:
            yield from _parts(file)


def _bounded(chunks: Iterable[bytes], limit: int) -> Generator[bytes, None, None]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit:
            raise BaseImageError(f"it has more than {limit} bytes when it is uncompressed")
        yield chunk


def _parts(file: IO[bytes]) -> Iterator[bytes]:
    while part := file.read(_CHUNK):
        yield part


def _gunzip(file: IO[bytes]) -> Iterator[bytes]:
    engine = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        for packed in _parts(file):
            data = packed
            while data:
                if engine.eof:
                    # Several members stand one after another, possibly padded.
                    data = data.lstrip(b"\0")
                    if not data:
                        break
                    engine = zlib.decompressobj(zlib.MAX_WBITS | 16)
                part = engine.decompress(data, _CHUNK)
                if part:
                    yield part
                data = engine.unused_data if engine.eof else engine.unconsumed_tail
    except zlib.error as error:
        raise BaseImageError(f"its gzip stream is damaged ({error})") from error
    if not engine.eof:
        raise BaseImageError("its gzip stream ends too early")


def _unzstd(path: Path, file: IO[bytes]) -> Iterator[bytes]:
    with contextlib.suppress(ImportError):
        module = import_module("compression.zstd")
        try:
            with module.open(file) as stream:
                yield from _parts(stream)
        except (module.ZstdError, EOFError) as error:
            raise BaseImageError(f"its zstd stream is damaged ({error})") from error
        return
    with contextlib.suppress(ImportError):
        module = import_module("zstandard")
        try:
            yield from _parts(module.ZstdDecompressor().stream_reader(file, read_across_frames=True))
        except module.ZstdError as error:
            raise BaseImageError(f"its zstd stream is damaged ({error})") from error
        return
    program = shutil.which("zstd")
    if program is None:
        message = (
            "it is packed with zstd, which this Python cannot read. Install one of: `pip install zstandard`, "
            "`apt-get install zstd`, Python 3.14"
        )
        raise BaseImageError(message)
    yield from _run_zstd(program, path)


def _run_zstd(program: str, path: Path) -> Iterator[bytes]:
    command = [program, "-dcq", "--", str(path)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None  # noqa: S101 - it is a pipe
        assert running.stderr is not None  # noqa: S101 - it is a pipe
        try:
            yield from _parts(running.stdout)
            said = running.stderr.read(500).decode(errors="replace").strip()
        finally:
            running.kill()
    if running.returncode != 0:
        raise BaseImageError(f"its zstd stream is damaged ({said})")
