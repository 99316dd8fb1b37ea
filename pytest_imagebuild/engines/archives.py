"""Bootstrapped root archives, kept by their digest in the cache folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import Literal

from filelock import FileLock

from pytest_imagebuild.engines import bootstrap
from pytest_imagebuild.engines.protocol import Output
from pytest_imagebuild.errors import BaseImageError

__all__ = ["Archives"]

# Debian's index moves a few times a day; within this time a reference means the archive that was made for it.
_FRESH_SECONDS = 24 * 3600


class Archives:
    """Makes archives once. Processes that want the same one wait for each other."""

    def __init__(self, cache_dir: Path, architecture: Literal["amd64", "arm64"]) -> None:
        self._folder = cache_dir.absolute() / "bases"
        self._architecture = architecture

    def make(self, reference: str, output: Output) -> str:
        """Return the digest of the archive that `reference` stands for today."""
        with self._locked(reference):
            fresh = self._latest(reference)
            return fresh if fresh is not None else self._bootstrap(reference, output)

    def stand_in(self, reference: str, registry: str, said: str, load: str, output: Output) -> str:
        """Return the digest of the archive that stands in for a registry which cannot be reached.

        `said` is what was met instead of an answer, `load` the command that brings images into the engine. Raises
        BaseImageError for a reference that Debian's packages cannot make.
        """
        if not bootstrap.supports(reference):
            raise BaseImageError(
                f"the base image {reference} was asked of {registry}, which cannot be reached: {said}. Only "
                f"`python:3.X-slim*` and `debian:*` can be made without a registry; connect, or load the image with "
                f"`{load}`."
            )
        output(f"{reference}: {registry} cannot be reached, so it is made from Debian's own packages")
        return self.make(reference, output)

    def get(self, reference: str, digest: str, output: Output) -> Path:
        """Return the archive of a pinned digest. Raises BaseImageError when it cannot be made any more."""
        path = self._path(digest)
        with self._locked(reference):
            if path.exists():
                return path
            output(f"{reference}: it is made from Debian's own packages, as the lockfile says")
            made = self._bootstrap(reference, output)
        if made != digest:
            message = (
                f"{reference} is pinned to the archive {digest}, but Debian's packages now give {made}: the Debian "
                f"index has moved on. Pin anew with --image-lock-upgrade={reference}."
            )
            raise BaseImageError(message)
        return path

    def _bootstrap(self, reference: str, output: Output) -> str:
        partial = self._folder / f"{_slug(reference)}-{self._architecture}.{os.getpid()}.partial"
        try:
            bootstrap.bootstrap(reference, architecture=self._architecture, target=partial, output=output)
            digest = _digest(partial)
            partial.replace(self._path(digest))
        finally:
            partial.unlink(missing_ok=True)
        self._record(reference).write_text(json.dumps({"digest": digest, "made": time.time()}), encoding="utf-8")
        return digest

    def _latest(self, reference: str) -> str | None:
        try:
            record = json.loads(self._record(reference).read_text(encoding="utf-8"))
            digest, made = str(record["digest"]), float(record["made"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        # One from the future was made before the clock was set back: nobody knows how old it is.
        fresh = 0 <= time.time() - made < _FRESH_SECONDS
        return digest if fresh and self._path(digest).exists() else None

    def _locked(self, reference: str) -> FileLock:
        self._folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self._folder / f"{_slug(reference)}-{self._architecture}.lock", thread_local=False)

    def _record(self, reference: str) -> Path:
        return self._folder / f"{_slug(reference)}-{self._architecture}.json"

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest.removeprefix('sha256:')}.tar"


def _slug(reference: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", reference)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1024 * 1024):
            digest.update(part)
    return f"sha256:{digest.hexdigest()}"
