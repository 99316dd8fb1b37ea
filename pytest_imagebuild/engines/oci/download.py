"""Brings blobs of one place into the store: resumed where a download broke off, verified, once for all processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from filelock import Timeout

from pytest_imagebuild.engines.oci.client import CallFailed, Client
from pytest_imagebuild.engines.oci.content import Blobs, Partial, WrongContent, digest_of
from pytest_imagebuild.engines.oci.manifest import ACCEPT, MOST_METADATA, Descriptor
from pytest_imagebuild.engines.oci.progress import Progress

__all__ = ["Download"]

_AT_ONCE = 4
_LOOK = 0.3
# What a break in the middle loses at most: only whole parts arrive.
_CHUNK = 32 * 1024


class Download:
    """Downloads from one place. Raises CallFailed."""

    def __init__(self, client: Client, blobs: Blobs, progress: Progress) -> None:
        self._client = client
        self._blobs = blobs
        self._progress = progress

    def manifest(self, digest: str) -> bytes:
        """Return a manifest or an index, and keep it."""
        if (here := self._here(digest)) is not None:
            return here
        path, headers = f"manifests/{digest}", {"Accept": ACCEPT}
        data, _ = self._client.insist(lambda: self._client.read(path, headers=headers, most=MOST_METADATA))
        if digest_of(data) != digest:
            raise CallFailed(f"a manifest of the digest {digest_of(data)}", kind="wrong")
        self._blobs.add(data)
        return data

    def small(self, blob: Descriptor) -> bytes:
        """Return a blob that fits into memory, and keep it."""
        if blob.size > MOST_METADATA:
            raise CallFailed(f"a configuration of {blob.size} bytes, more than any registry may serve", kind="wrong")
        if (here := self._here(blob.digest)) is not None:
            return here
        self.one(blob.digest, blob.size)
        return self._blobs.read(blob.digest)

    def all(self, blobs: Iterable[tuple[str, int]]) -> None:
        """Download several at a time, each a digest and its size. The first failure stops the others."""
        wanted = dict(blobs)
        failure: BaseException | None = None
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="imagebuild-download") as pool:
            running = [pool.submit(self.one, digest, size) for digest, size in wanted.items()]
            try:
                done, _ = wait(running, return_when=FIRST_EXCEPTION)
                failure = next((error for task in done if (error := task.exception()) is not None), None)
            finally:
                if failure is not None or not all(task.done() for task in running):
                    self._client.cancel()
                    pool.shutdown(cancel_futures=True)
        if failure is not None:
            raise failure

    def one(self, digest: str, size: int) -> None:
        """Download one blob unless it is here."""
        with self._locked(digest):
            if self._blobs.has(digest):
                self._progress.status(digest, "Already exists")
                return
            with self._blobs.partial(digest, size) as partial:
                self._client.insist(lambda: self._whole(digest, partial), lambda: partial.size)
        self._progress.status(digest, "Download complete")

    @contextlib.contextmanager
    def _locked(self, digest: str) -> Iterator[None]:
        lock, waits = self._blobs.lock(digest), False
        while not lock.is_locked:
            try:
                lock.acquire(timeout=_LOOK)
            except Timeout:
                self._client.check()
                if not waits:
                    self._progress.status(digest, "Waiting for another process")
                waits = True
        try:
            yield
        finally:
            lock.release()

    def _here(self, digest: str) -> bytes | None:
        try:
            return self._blobs.read(digest)
        except WrongContent:
            self._blobs.remove(digest)
        except FileNotFoundError:
            pass
        return None

    def _whole(self, digest: str, partial: Partial) -> None:
        if partial.size < partial.wanted:
            self._rest(digest, partial)
        if partial.size < partial.wanted:
            short = f"the connection ended after {partial.size} of {partial.wanted} bytes"
            raise CallFailed(short, kind="broke", again=True)
        was_resumed = partial.was_resumed
        try:
            partial.finish()
        except WrongContent as wrong:
            # What an earlier run left may be damaged; what came in one piece is the registry's word.
            raise CallFailed(str(wrong), kind="wrong", again=was_resumed) from wrong

    def _rest(self, digest: str, partial: Partial) -> None:
        headers = {"Range": f"bytes={partial.size}-"} if partial.size else {}
        with self._client.open(f"blobs/{digest}", headers=headers) as response:
            if partial.size and not _goes_on(response.headers.get("Content-Range", ""), partial.size):
                partial.restart()
            for part in response.iter_content(_CHUNK):
                self._client.check()
                self._write(partial, part)
                self._progress.amount(digest, partial.size, partial.wanted)

    def _write(self, partial: Partial, part: bytes) -> None:
        try:
            partial.write(part)
        except WrongContent as wrong:
            raise CallFailed(str(wrong), kind="wrong") from wrong


def _goes_on(content_range: str, size: int) -> bool:
    """Say whether a server sends the rest only; one that knows no ranges sends all (RFC 9110, 14.4)."""
    return content_range.startswith(f"bytes {size}-")
