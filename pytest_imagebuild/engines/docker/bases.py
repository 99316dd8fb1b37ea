"""Base images: from a registry, from the engine's own images, or bootstrapped where no registry answers."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, DockerException

from pytest_imagebuild.engines import bootstrap
from pytest_imagebuild.engines.archives import Archives
from pytest_imagebuild.engines.configuration import PATH
from pytest_imagebuild.engines.credentials import Credentials
from pytest_imagebuild.engines.docker.connection import LOST, engine_errors, explain
from pytest_imagebuild.engines.docker.marks import BASES
from pytest_imagebuild.engines.layers import BasePin
from pytest_imagebuild.engines.protocol import Output
from pytest_imagebuild.engines.references import (
    LOGIN_REFUSED,
    Reference,
    means_refused,
    means_unreachable,
    unknown_source,
)
from pytest_imagebuild.errors import BaseImageError

if TYPE_CHECKING:
    from docker import APIClient

    from pytest_imagebuild.engines.docker.pulled import Pulled
    from pytest_imagebuild.engines.docker.store import Store

__all__ = ["Bases"]

_EMPTY_TAR = bytes(1024)


class _RegistryError(Exception):
    """What a registry, or the way to it, said."""


class Bases:
    """Pins base images and brings them into the engine."""

    def __init__(self, api: APIClient, store: Store, archives: Archives, pulled: Pulled) -> None:
        self._api = api
        self._store = store
        self._archives = archives
        self._pulled = pulled

    def pin(self, reference: str, output: Output, credentials: Credentials | None = None) -> BasePin:
        """Ask what `reference` stands for today."""
        name = Reference.parse(reference)
        if name.digest:
            return BasePin(digest=name.digest, source="registry")
        local = self._store.inspect(reference) if _is_name(reference) else None
        known = name.digest_in(local.get("RepoDigests") or []) if local else None
        if local and known is None:
            return BasePin(digest=local["Id"], source="local")
        try:
            return BasePin(digest=self._ask(name, reference, output, credentials), source="registry")
        except _RegistryError as error:
            if local and known:
                output(f"{reference}: {name.registry} does not answer; the image that is here is used")
                return BasePin(digest=known, source="registry")
            return self._pin_without_registry(reference, str(error), output, credentials)

    def bring(self, reference: str, pin: BasePin, output: Output, credentials: Credentials | None = None) -> str:
        """Have the pinned image in the engine, verified, and return its id."""
        match pin.source:
            case "registry":
                return self._bring_from_registry(reference, pin, output, credentials)
            case "bootstrap":
                return self._bring_archive(reference, pin, output)
            case "local":
                return self._bring_local(reference, pin)
            case "scratch":
                return self._bring_nothing()
        raise unknown_source(reference, pin)

    def _ask(self, name: Reference, reference: str, output: Output, credentials: Credentials | None) -> str:
        try:
            login = _login(credentials)
            answer = self._api.inspect_distribution(reference, auth_config=login)  # type: ignore[no-untyped-call]
        except APIError as error:
            said = explain(error)
            if means_unreachable(said):
                raise _RegistryError(said) from error
        except (DockerException, *LOST) as error:
            raise _RegistryError(explain(error)) from error
        else:
            return str(answer["Descriptor"]["digest"])
        # A mirror, or an engine without this call, may know no digest where a pull finds the image.
        self._pull(name.repository, name.tag, output, credentials)
        image = self._store.inspect(reference) or {}
        digest = name.digest_in(image.get("RepoDigests") or [])
        if digest is None:
            raise _RegistryError("the registry gave no digest")
        return digest

    def _pin_without_registry(
        self, reference: str, said: str, output: Output, credentials: Credentials | None
    ) -> BasePin:
        registry = Reference.parse(reference).registry
        if not means_unreachable(said):
            raise BaseImageError(_refusal(reference, registry, said, _log_in(credentials)))
        digest = self._archives.stand_in(reference, registry, said, "docker load", output)
        return BasePin(digest=digest, source="bootstrap")

    def _bring_from_registry(
        self, reference: str, pin: BasePin, output: Output, credentials: Credentials | None
    ) -> str:
        name = Reference.parse(reference)
        pinned = f"{name.repository}@{pin.digest}"
        image = self._store.inspect(pinned)
        if image is None:
            self._pulled.note(pin.digest)
            try:
                self._pull(name.repository, pin.digest, output, credentials)
            except _RegistryError as error:
                said = _cannot_pull(reference, pin, name.registry, str(error), _log_in(credentials))
                raise BaseImageError(said) from error
            image = self._store.inspect(pinned)
        if image is None or name.digest_in(image.get("RepoDigests") or []) is None:
            message = f"{reference} was pulled as {pinned}, but the engine has no image of that digest; pull it by hand"
            raise BaseImageError(message)
        return str(image["Id"])

    def _bring_archive(self, reference: str, pin: BasePin, output: Output) -> str:
        hexadecimal = pin.digest.removeprefix("sha256:")
        name = f"{BASES}:{hexadecimal}"
        image = self._store.inspect(name)
        if image is None:
            archive = self._archives.get(reference, pin.digest, output)
            command = json.dumps(bootstrap.command_of(reference))
            with engine_errors(f"import {reference}"):
                self._api.import_image_from_file(
                    str(archive), repository=BASES, tag=hexadecimal, changes=[f"ENV PATH={PATH}", f"CMD {command}"]
                )
            image = self._store.inspect(name)
        if image is None:
            raise BaseImageError(f"{reference} was imported as {name}, but the engine does not have it; run again")
        return str(image["Id"])

    def _bring_local(self, reference: str, pin: BasePin) -> str:
        image = self._store.inspect(pin.digest)
        if image is None:
            message = (
                f"{reference} is pinned to the local image {pin.digest}, which is not in this engine. Build it again, "
                f"then run with --image-lock-upgrade={reference}."
            )
            raise BaseImageError(message)
        return str(image["Id"])

    def _bring_nothing(self) -> str:
        tag = hashlib.sha256(_EMPTY_TAR).hexdigest()
        image = self._store.inspect(f"{BASES}:{tag}")
        if image is None:
            with engine_errors("make an empty image"):
                self._api.import_image_from_data(_EMPTY_TAR, repository=BASES, tag=tag)
            image = self._store.inspect(f"{BASES}:{tag}")
        if image is None:
            raise BaseImageError("an empty image was made, but the engine does not have it; run again")
        return str(image["Id"])

    def _pull(self, repository: str, tag: str, output: Output, credentials: Credentials | None) -> None:
        try:
            events = self._api.pull(repository, tag=tag, stream=True, decode=True, auth_config=_login(credentials))
            for line in _pull_lines(repository, events):
                output(line)
        except (DockerException, *LOST) as error:
            raise _RegistryError(explain(error)) from error


_DAMAGED = ("verification failed", "unexpected EOF", "short read", "size validation")
"""What the daemon says of content that is not what its digest promises, or that breaks off."""


def _login(credentials: Credentials | None) -> dict[str, str] | None:
    """Return what docker-py sends; None lets it look into the Docker config."""
    return None if credentials is None else {"username": credentials.username, "password": credentials.password}


def _pull_lines(repository: str, events: Iterator[dict[str, Any]]) -> Iterator[str]:
    shown = 0.0
    for event in events:
        if "error" in event:
            raise _RegistryError(" ".join(str(event["error"]).split()))
        status, part = event.get("status", ""), event.get("id", "")
        progress = event.get("progress", "")
        if not progress or time.monotonic() - shown > 0.2:
            shown = time.monotonic() if progress else shown
            yield f"{repository}: {part + ': ' if part else ''}{status}{' ' + progress if progress else ''}"


def _is_name(reference: str) -> bool:
    return bool(reference) and not any(character.isspace() or character in "?#" for character in reference)


def _log_in(credentials: Credentials | None) -> str:
    return "log in with `docker login`" if credentials is None else LOGIN_REFUSED


def _refusal(reference: str, registry: str, said: str, log_in: str) -> str:
    asked = f"the base image {reference} was asked of {registry}, which answered: {said}."
    if "x509" in said or "certificate" in said:
        return f"{asked} Give the Docker daemon the certificate of your registry or proxy."
    if "toomanyrequests" in said:
        return f"{asked} {log_in[0].upper()}{log_in[1:]} to get a higher limit."
    if means_refused(said):
        return f"{asked} Check the spelling and the tag, or {log_in}."
    return f"{asked} Try `docker pull {reference}`."


def _cannot_pull(reference: str, pin: BasePin, registry: str, said: str, log_in: str) -> str:
    asked = f"{reference} is pinned to {pin.digest}, which was asked of {registry}"
    if any(text in said for text in _DAMAGED):
        return f"{asked}; it gave: {said}. Try again; if it stays so, the registry or a proxy on the way is damaged."
    if means_unreachable(said):
        return f"{asked}; it cannot be reached: {said}. Connect, or pin anew with --image-lock-upgrade={reference}."
    return f"{asked}; it answered: {said}. Pin anew with --image-lock-upgrade={reference}, or {log_in}."
