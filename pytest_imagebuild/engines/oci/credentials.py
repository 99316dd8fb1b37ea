"""Credentials of the Docker config, and what a registry asks for with `WWW-Authenticate`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from docker import auth
from docker.errors import DockerException

from pytest_imagebuild.errors import BaseImageError

__all__ = ["Challenge", "Credentials", "find_credentials"]

_PARAMETER = re.compile(r'([A-Za-z_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Credentials:
    """A user and a password, or an identity token that a token service takes for them."""

    user: str = ""
    password: str = ""
    identity_token: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenge:
    """What a registry asks for: `basic`, or a `bearer` token of the service at `realm`."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""

    @classmethod
    def parse(cls, header: str) -> Challenge | None:
        """Return the challenge of a header; a token is preferred where both are offered."""
        for scheme in ("bearer", "basic"):
            match = re.search(rf"(?:^|,)\s*{scheme}(?:\s+|$)", header, re.IGNORECASE)
            if match:
                found = {
                    name.lower(): quoted or bare for name, quoted, bare in _PARAMETER.findall(header[match.end() :])
                }
                return cls(
                    scheme=scheme,
                    realm=found.get("realm", ""),
                    service=found.get("service", ""),
                    scope=found.get("scope", ""),
                )
        return None


def find_credentials(registry: str, environ: Mapping[str, str]) -> Credentials | None:
    """Return what the Docker config, or a credential helper that it names, holds for `registry`."""
    folder = environ.get("DOCKER_CONFIG") or Path(environ.get("HOME") or Path.home()) / ".docker"
    path = Path(folder) / "config.json"
    if not path.is_file():
        return None
    try:
        entry = auth.load_config(config_path=str(path)).resolve_authconfig(registry) or {}
    except (DockerException, ValueError, OSError) as error:
        # The error of a credential helper may hold what it printed, so it is not repeated.
        message = (
            f"the credentials for {registry} could not be read from {path} or from the credential helper that it "
            f"names ({type(error).__name__}). Try `docker login {registry}`."
        )
        raise BaseImageError(message) from None
    found = {key.lower(): value for key, value in entry.items() if isinstance(value, str)}
    if found.get("identitytoken"):
        return Credentials(identity_token=found["identitytoken"])
    if found.get("username"):
        return Credentials(user=found["username"], password=found.get("password", ""))
    return None
