"""Images of a registry: what a tag stands for, and the download of a pinned digest.

The protocol is that of the OCI distribution specification. Mirrors are asked first, as Docker does it: what a mirror
refuses or leaves unanswered is asked of the registry itself, and how that fares decides.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

import requests

from pytest_imagebuild.engines.credentials import Credentials
from pytest_imagebuild.engines.oci.client import CallFailed, Client, new_session
from pytest_imagebuild.engines.oci.content import Blobs, WrongContent, checked_digest, digest_of, is_digest
from pytest_imagebuild.engines.oci.credentials import Credentials as Login
from pytest_imagebuild.engines.oci.credentials import find_credentials
from pytest_imagebuild.engines.oci.download import Download
from pytest_imagebuild.engines.oci.manifest import (
    ACCEPT,
    MOST_METADATA,
    Descriptor,
    Index,
    OciImage,
    parse_image,
    parse_manifest,
)
from pytest_imagebuild.engines.oci.places import HUB, MIRRORS, Place, places
from pytest_imagebuild.engines.oci.progress import Progress
from pytest_imagebuild.engines.oci.unreachable import RegistryUnreachable
from pytest_imagebuild.engines.protocol import Output
from pytest_imagebuild.engines.references import LOGIN_REFUSED, Reference
from pytest_imagebuild.errors import BaseImageError

__all__ = ["Registry"]

_T = TypeVar("_T")

# The grammar of the distribution specification; an address is built of these parts.
_REGISTRY = r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?/"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"(?:{_REGISTRY})?{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class Registry:
    """Asks registries and their mirrors. `platform` is as in `linux/amd64`.

    Errors: RegistryUnreachable when the registry does not answer, BaseImageError for everything else.
    """

    def __init__(self, *, blobs: Blobs, platform: str, environ: Mapping[str, str] = os.environ) -> None:
        self._blobs = blobs
        self._platform = platform
        self._environ = environ

    def resolve(self, reference: str, output: Output, credentials: Credentials | None = None) -> str:
        """Return the digest of the index or manifest that `reference` stands for today."""
        name = _parsed(reference)
        if name.digest:
            return checked_digest(name.digest)
        try:
            return self._ask(reference, name, lambda client: _digest(client, name.tag, reference), output, credentials)
        except _NotGot as error:
            raise error.translated(
                f"the base image {reference} was asked of {error.place.shown}, which",
                connect=f"Connect, or name a mirror in {MIRRORS}.",
                refused=f"Check the spelling and the tag, or {error.log_in}.",
            ) from error

    def fetch(self, reference: str, digest: str, output: Output, credentials: Credentials | None = None) -> OciImage:
        """Have all blobs of the image of `digest`, verified. What is here already is not asked for."""
        name = _parsed(reference)
        known = self._known(reference, checked_digest(digest))
        if known is not None:
            return known
        try:
            return self._ask(
                reference, name, lambda client: self._download(client, reference, digest, output), output, credentials
            )
        except _NotGot as error:
            again = f"in anew with --image-lock-upgrade={reference}"
            raise error.translated(
                f"{reference} is pinned to {digest}, which was asked of {error.place.shown}; it",
                connect=f"Connect, or p{again}.",
                refused=f"P{again}, or {error.log_in}.",
            ) from error

    def _known(self, reference: str, digest: str) -> OciImage | None:
        """Return the image when all of it is here."""
        read = self._blobs.read
        try:
            image = _assemble(reference, self._platform, digest, read, lambda blob: read(blob.digest))
        except (OSError, WrongContent):
            return None
        return image if all(self._blobs.has(layer.blob) for layer in image.layers) else None

    def _download(self, client: Client, reference: str, digest: str, output: Output) -> OciImage:
        download = Download(client, self._blobs, Progress(reference, output))
        image = _assemble(reference, self._platform, digest, download.manifest, download.small)
        download.all((layer.blob, layer.size) for layer in image.layers)
        return image

    def _ask(
        self,
        reference: str,
        name: Reference,
        call: Callable[[Client], _T],
        output: Output,
        credentials: Credentials | None,
    ) -> _T:
        mirrors: list[str] = []
        with new_session(self._environ) as session:
            for place in places(name, self._environ):
                try:
                    return call(self._client(session, place, credentials))
                except CallFailed as failed:
                    if not place.is_mirror:
                        raise _NotGot(place, failed, mirrors, credentials) from failed
                    mirrors.append(f"{place.shown} {failed.verb}: {failed.said}")
                    output(f"{reference}: {mirrors[-1]}; the registry itself is asked")
        raise AssertionError("the registry itself is always among the places")

    def _client(self, session: requests.Session, place: Place, credentials: Credentials | None) -> Client:
        if credentials is None or place.is_mirror:
            return Client(session, place, lambda: find_credentials(place.name, self._environ))
        return Client(session, place, lambda: Login(user=credentials.username, password=credentials.password))


class _NotGot(Exception):
    """The registry did not give what was asked, and neither did its mirrors."""

    def __init__(self, place: Place, failed: CallFailed, mirrors: list[str], credentials: Credentials | None) -> None:
        super().__init__(failed.said)
        self.place = place
        login = "docker login" if place.name == HUB else f"docker login {place.name}"
        self.log_in = f"log in with `{login}`" if credentials is None else LOGIN_REFUSED
        self._failed = failed
        self._mirrors = mirrors

    def translated(self, asked: str, *, connect: str, refused: str) -> BaseImageError:
        """Return the error for the user; `connect` and `refused` are the next actions."""
        failed = self._failed
        met = failed.said + (f" (before that, {'; '.join(self._mirrors)})" if self._mirrors else "")
        said = f"{asked} {failed.verb}: {met}."
        if failed.kind == "silent":
            return RegistryUnreachable(f"{said} {connect}", registry=self.place.shown, said=met)
        if failed.kind == "untrusted":
            return BaseImageError(f"{said} Name the file of the right CA certificates in SSL_CERT_FILE.")
        if failed.status == 429:
            return BaseImageError(f"{said} Try again later, or {self.log_in} to get a higher limit.")
        if failed.status in (401, 403, 404):
            return BaseImageError(f"{said} {refused}")
        return BaseImageError(f"{said} Try again; if it stays so, the registry or a proxy on the way is damaged.")


def _parsed(reference: str) -> Reference:
    name = Reference.parse(reference)
    if not _REPOSITORY.fullmatch(name.repository) or not (_TAG.fullmatch(name.tag) or (name.digest and not name.tag)):
        message = f"{reference!r} is no name of an image. Write it as [registry[:port]/]name[:tag], in small letters."
        raise BaseImageError(message)
    return name


def _digest(client: Client, tag: str, reference: str) -> str:
    path, headers = f"manifests/{tag}", {"Accept": ACCEPT}
    found = client.insist(lambda: _digest_header(client, path, headers))
    if is_digest(found):
        return found
    data, media_type = client.insist(lambda: client.read(path, headers=headers, most=MOST_METADATA))
    # Something on the way may answer everything with a page of its own.
    parse_manifest(data, reference, media_type)
    return digest_of(data)


def _digest_header(client: Client, path: str, headers: Mapping[str, str]) -> str:
    try:
        with client.open(path, method="HEAD", headers=headers) as response:
            return response.headers.get("Docker-Content-Digest", "")
    except CallFailed as failed:
        if failed.kind == "refused" and not failed.again:
            # The answer to GET says why.
            return ""
        raise


def _assemble(
    reference: str,
    platform: str,
    digest: str,
    manifest_bytes: Callable[[str], bytes],
    config_bytes: Callable[[Descriptor], bytes],
) -> OciImage:
    parsed = parse_manifest(manifest_bytes(digest), reference)
    if isinstance(parsed, Index):
        chosen = parsed.choose(platform, reference)
        parsed = parse_manifest(manifest_bytes(chosen.digest), reference)
    if isinstance(parsed, Index):
        raise BaseImageError(f"{reference} is an index of indexes, which no engine takes. Name an image.")
    return parse_image(parsed, config_bytes(parsed.config), platform, reference)
