"""Names of images, and what a registry's refusal means."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_imagebuild.engines.layers import BasePin
from pytest_imagebuild.errors import BaseImageError

__all__ = [
    "LOGIN_REFUSED",
    "Reference",
    "familiar",
    "is_image_name",
    "means_refused",
    "means_unreachable",
    "unknown_source",
]

LOGIN_REFUSED = "check the values of the secret that the chain call gives for this registry"
"""What to do where a registry refuses the credentials of a `Secret`."""

_UNREACHABLE = re.compile(
    r"no such host|connection refused|connection reset|i/o timeout|time-?out|timed out|deadline exceeded"
    r"|network is unreachable|no route to host|name resolution|server misbehaving|request canceled"
    r"|proxyconnect|failed to do request|bad gateway|service unavailable|\bEOF\b",
    re.IGNORECASE,
)
_CERTIFICATE = re.compile(r"x509|certificate", re.IGNORECASE)
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?/)?"
_IMAGE_NAME = re.compile(rf"{_HOST}{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?")
_MOST_NAME = 255
_REFUSED = re.compile(r"not found|unknown|denied|unauthorized|no basic auth|does not exist", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A reference in three parts. `repository` is as the user wrote it, with the registry if he named one."""

    repository: str
    tag: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Split `[registry[:port]/]name[:tag][@digest]`."""
        named, _, digest = text.partition("@")
        repository, colon, tag = named.rpartition(":")
        if not colon or "/" in tag:
            repository, tag = named, ""
        return cls(repository=repository, tag=tag or ("" if digest else "latest"), digest=digest)

    @property
    def registry(self) -> str:
        """Return the registry for a message."""
        first, slash, _ = self.repository.partition("/")
        return first if slash and (set(".:") & set(first) or first == "localhost") else "Docker Hub"

    def digest_in(self, repo_digests: list[str]) -> str | None:
        """Return the digest that `RepoDigests` of an image holds for this repository."""
        for entry in repo_digests:
            repository, _, digest = entry.partition("@")
            if familiar(repository) == familiar(self.repository):
                return digest
        return None


def means_unreachable(message: str) -> bool:
    """Say whether no answer came from the registry."""
    return bool(_UNREACHABLE.search(message)) and not _CERTIFICATE.search(message)


def means_refused(message: str) -> bool:
    """Say whether the registry answered that it does not give this image."""
    return bool(_REFUSED.search(message))


def unknown_source(reference: str, pin: BasePin) -> BaseImageError:
    """Return the error of a pin that a later version has written."""
    return BaseImageError(f"{reference} is pinned to a source named {pin.source!r}, which this version does not know")


def is_image_name(text: str) -> bool:
    """Say whether `text` can name an image of an engine: `name`, `name:tag` or `registry/name:tag`, without a digest.

    The rules are those of the reference grammar of Docker (distribution/reference).
    """
    return bool(_IMAGE_NAME.fullmatch(text)) and len(text) < _MOST_NAME


def familiar(repository: str) -> str:
    """Return the name of a repository as users write it: without the parts that stand for Docker Hub."""
    for prefix in ("docker.io/", "index.docker.io/"):
        repository = repository.removeprefix(prefix)
    return repository.removeprefix("library/")
