"""Where an image can be asked for: the mirrors of its registry, then the registry."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pytest_imagebuild.engines.references import Reference
from pytest_imagebuild.errors import BaseImageError

__all__ = ["HUB", "MIRRORS", "Place", "places"]

HUB = "docker.io"
"""The name of Docker Hub in references and in the Docker configuration; its API answers elsewhere."""

MIRRORS = "IMAGEBUILD_REGISTRY_MIRRORS"
"""A comma list: `https://mirror.example` is a mirror of Docker Hub, `registry.example=https://…` one of a registry."""

_HUB_API = "registry-1.docker.io"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """One registry. `url` is where its API is, without `/v2`; `name` is what people and the Docker config call it."""

    url: str
    name: str
    repository: str
    is_mirror: bool

    @property
    def shown(self) -> str:
        """The name for a message."""
        return "Docker Hub" if self.name == HUB else f"the mirror {self.name}" if self.is_mirror else self.name


def places(name: Reference, environ: Mapping[str, str]) -> tuple[Place, ...]:
    """Return the mirrors and the origin of `name`, in the order in which they are asked."""
    registry, repository = _split(name)
    settings = list(_daemon_settings(environ))
    found = [
        Place(url=url, name=urlsplit(url).netloc, repository=repository, is_mirror=True)
        for url in _mirrors(registry, environ, settings)
    ]
    scheme = "http" if _is_insecure(registry, settings) else "https"
    host = _HUB_API if registry == HUB else registry
    return (*found, Place(url=f"{scheme}://{host}", name=registry, repository=repository, is_mirror=False))


def _split(name: Reference) -> tuple[str, str]:
    if name.registry != "Docker Hub":
        registry, _, repository = name.repository.partition("/")
        if registry not in (HUB, "index.docker.io", _HUB_API):
            return registry, repository
    else:
        repository = name.repository
    return HUB, repository if "/" in repository else f"library/{repository}"


def _mirrors(registry: str, environ: Mapping[str, str], settings: list[Mapping[str, Any]]) -> Iterator[str]:
    for entry in filter(None, (part.strip() for part in environ.get(MIRRORS, "").split(","))):
        of, named, url = entry.partition("=")
        if not named:
            of, url = HUB, entry
        if of == registry:
            yield _checked(url)
    if registry == HUB:
        for daemon in settings:
            yield from (_checked(url) for url in _strings(daemon.get("registry-mirrors")))


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        # The port is read here because a wrong one is found only then.
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or "@" in parts.netloc:
        # The address is not repeated: it may hold a password.
        message = (
            f"{MIRRORS}, or `registry-mirrors` of Docker's daemon.json, has a mirror that is no address such as "
            "https://mirror.example. Give credentials with `docker login`, not in the address."
        )
        raise BaseImageError(message)
    return url.rstrip("/")


def _daemon_settings(environ: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
    home = Path(environ.get("HOME") or Path.home())
    for path in (home / ".config" / "docker" / "daemon.json", Path("/etc/docker/daemon.json")):
        try:
            parsed = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(parsed, dict):
            yield parsed


def _is_insecure(registry: str, settings: list[Mapping[str, Any]]) -> bool:
    host = urlsplit(f"//{registry}").hostname or ""
    listed = {entry for daemon in settings for entry in _strings(daemon.get("insecure-registries"))}
    if host == "localhost" or registry in listed:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or any(address in network for network in _networks(listed))


def _networks(entries: set[str]) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    for entry in entries:
        if "/" in entry:
            try:
                yield ipaddress.ip_network(entry, strict=False)
            except ValueError:
                continue


def _strings(value: object) -> list[str]:
    return [entry for entry in value if isinstance(entry, str)] if isinstance(value, list) else []
