"""The host's network settings, as steps and sessions get them: proxies, the CA bundle, package indexes.

They apply to what runs inside and enter no layer and no key. What names a path of the host means nothing inside, so it
is left out; so is, for sessions, what only the host itself can reach.
"""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pytest_imagebuild.engines.entries import FileEntry

__all__ = ["CA_BUNDLE", "HostNetwork", "pip_config_files"]

CA_BUNDLE = "/dev/shm/imagebuild-ca.crt"  # noqa: S108 - a path in the container's memory

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy")

# uv reads SSL_CERT_FILE and needs no more: it takes the place of its own roots (uv docs, "TLS certificates").
_CERTIFICATES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "MAMBA_SSL_VERIFY",
    "CONDA_SSL_VERIFY",
)

# What parts the values of a variable; None where there is one. Those of `_PLAIN` are no addresses.
_INDEXES = {
    "PIP_INDEX_URL": None,
    "PIP_EXTRA_INDEX_URL": " ",
    "PIP_FIND_LINKS": " ",
    "PIP_TRUSTED_HOST": " ",
    "PIP_DEFAULT_TIMEOUT": None,
    "PIP_RETRIES": None,
    "UV_INDEX_URL": None,
    "UV_DEFAULT_INDEX": None,
    "UV_INDEX": " ",
    "UV_EXTRA_INDEX_URL": " ",
    "UV_FIND_LINKS": ",",
    "UV_INSECURE_HOST": " ",
    "UV_INDEX_STRATEGY": None,
    "UV_HTTP_TIMEOUT": None,
    "UV_HTTP_RETRIES": None,
    "UV_PYTHON_INSTALL_MIRROR": None,
    "UV_PYTHON_DOWNLOADS_JSON_URL": None,
    "MAMBA_CHANNEL_ALIAS": None,
    "MAMBA_REMOTE_CONNECT_TIMEOUT_SECS": None,
    "MAMBA_REMOTE_MAX_RETRIES": None,
}
_PLAIN = frozenset(
    {
        "PIP_DEFAULT_TIMEOUT",
        "PIP_RETRIES",
        "UV_INDEX_STRATEGY",
        "UV_HTTP_TIMEOUT",
        "UV_HTTP_RETRIES",
        "MAMBA_REMOTE_CONNECT_TIMEOUT_SECS",
        "MAMBA_REMOTE_MAX_RETRIES",
    }
)
_HOSTS = frozenset({"PIP_TRUSTED_HOST", "UV_INSECURE_HOST"})
_INDEX_CREDENTIALS = re.compile(r"UV_INDEX_\w+_(?:USERNAME|PASSWORD)")
_PIP_OPTIONS = {
    "index-url": "PIP_INDEX_URL",
    "extra-index-url": "PIP_EXTRA_INDEX_URL",
    "find-links": "PIP_FIND_LINKS",
    "trusted-host": "PIP_TRUSTED_HOST",
    "timeout": "PIP_DEFAULT_TIMEOUT",
    "retries": "PIP_RETRIES",
    "cert": "PIP_CERT",
}


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class HostNetwork:
    """What the host sets. `proxies` and `indexes` are variables, `certificates` is the file of the CA bundle."""

    proxies: Mapping[str, str] = field(default_factory=dict)
    indexes: Mapping[str, str] = field(default_factory=dict)
    certificates: Path | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], pip_config: Iterable[Path] | None = None) -> HostNetwork:
        """Read variables and pip's configuration files (by default those that pip reads); variables win."""
        configured = _pip_settings(pip_config_files(environ) if pip_config is None else pip_config)
        settings = {**configured, **{name: value for name, value in environ.items() if value}}
        settings.setdefault("MAMBA_CHANNEL_ALIAS", settings.get("CONDA_CHANNEL_ALIAS", ""))
        indexes = {name: _reachable(name, settings[name]) for name in _INDEXES if name in settings}
        credentials = {name: value for name, value in environ.items() if _INDEX_CREDENTIALS.fullmatch(name)}
        bundles = (Path(settings[name]) for name in _CERTIFICATES if name in settings)
        return cls(
            proxies={name: environ[name] for name in _PROXIES if environ.get(name)},
            indexes={
                **{name: value for name, value in indexes.items() if value},
                **credentials,
                **_unverified(settings),
            },
            certificates=next((path for path in bundles if path.is_file()), None),
        )

    def for_steps(self) -> tuple[dict[str, str], tuple[FileEntry, ...], str]:
        """Return variables, tools, and the network: `host` where only the host reaches a proxy or an index."""
        proxies = (_is_loopback(value) for name, value in self.proxies.items() if name.lower() != "no_proxy")
        indexes = (_is_loopback(value) for name in self.indexes for value in self._addresses(name))
        network = "host" if any(proxies) or any(indexes) else "default"
        return {**self.proxies, **self.indexes, **self._certificate_variables()}, self._bundle(), network

    def for_sessions(self, *, own_network: bool) -> tuple[dict[str, str], tuple[FileEntry, ...]]:
        """Return variables and files for a container.

        One that has a network of its own does not get what only this machine reaches.
        """
        if not own_network:
            return {**self.proxies, **self.indexes, **self._certificate_variables()}, self._bundle()
        proxies = {name: value for name, value in self.proxies.items() if not _is_loopback(value)}
        if not any(name.lower() != "no_proxy" for name in proxies):
            proxies = {}
        indexes = {name: self._without_loopback(name) for name in self.indexes}
        kept = {name: value for name, value in indexes.items() if value}
        return {**proxies, **kept, **self._certificate_variables()}, self._bundle()

    def __repr__(self) -> str:
        def shown(variables: Mapping[str, str]) -> dict[str, str]:
            return {
                name: "***" if _INDEX_CREDENTIALS.fullmatch(name) else _hidden(variables[name]) for name in variables
            }

        return (
            f"HostNetwork(proxies={shown(self.proxies)}, indexes={shown(self.indexes)}, "
            f"certificates={str(self.certificates) if self.certificates else None!r})"
        )

    def _addresses(self, name: str) -> list[str]:
        return [] if name in _PLAIN | _HOSTS or name not in _INDEXES else _split(name, self.indexes[name])

    def _without_loopback(self, name: str) -> str:
        if name in _PLAIN or name not in _INDEXES:
            return self.indexes[name]
        return _join(name, [value for value in _split(name, self.indexes[name]) if not _is_loopback(value)])

    def _certificate_variables(self) -> dict[str, str]:
        return dict.fromkeys(_CERTIFICATES, CA_BUNDLE) if self.certificates else {}

    def _bundle(self) -> tuple[FileEntry, ...]:
        return (FileEntry(path=CA_BUNDLE, mode=0o644, source=self.certificates),) if self.certificates else ()


def pip_config_files(environ: Mapping[str, str]) -> list[Path]:
    """Return the configuration files of pip, the least important first (pip docs, "Configuration")."""
    named = environ.get("PIP_CONFIG_FILE")
    if named == "/dev/null":
        return []
    home = Path(environ.get("HOME") or Path.home())
    system = [Path(folder) / "pip" / "pip.conf" for folder in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")]
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    return [
        *system,
        Path("/etc/pip.conf"),
        home / ".pip" / "pip.conf",
        user / "pip" / "pip.conf",
        Path(sys.prefix) / "pip.conf",
        *([Path(named)] if named else []),
    ]


def _pip_settings(paths: Iterable[Path]) -> dict[str, str]:
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for path in filter(os.path.exists, paths):
        import configparser  # noqa: PLC0415 - most machines have none

        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue
        for section, options in found.items():
            if parser.has_section(section):
                options.update(parser.items(section))
    merged = {name.replace("_", "-"): value for options in found.values() for name, value in options.items()}
    return {variable: merged[option] for option, variable in _PIP_OPTIONS.items() if merged.get(option)}


def _unverified(settings: Mapping[str, str]) -> dict[str, str]:
    """Tell micromamba where conda's setting says that certificates are not to be verified."""
    said = settings.get("MAMBA_SSL_VERIFY") or settings.get("CONDA_SSL_VERIFY") or ""
    return {"MAMBA_SSL_VERIFY": "false"} if said.lower() in {"false", "0", "no", "off", "<false>"} else {}


def _reachable(name: str, value: str) -> str:
    """Leave out what names a path of the host."""
    if name in _PLAIN or name in _HOSTS:
        return " ".join(value.split())
    return _join(name, [part for part in _split(name, value) if not _is_local(part)])


def _split(name: str, value: str) -> list[str]:
    separator = _INDEXES[name]
    if separator is None:
        return [value.strip()]
    return value.split() if separator == " " else [part.strip() for part in value.split(separator) if part.strip()]


def _join(name: str, parts: Sequence[str]) -> str:
    return (_INDEXES[name] or " ").join(parts)


def _address(value: str) -> str:
    # uv lets an index have a name: `internal=https://…`.
    return re.sub(r"^[\w.-]+=", "", value)


def _is_local(value: str) -> bool:
    address = _address(value)
    # `git+https://…` and the like are addresses as well.
    return address.startswith("file:") or "://" not in address


def _is_loopback(value: str) -> bool:
    address = _address(value)
    try:
        host = urlsplit(address if "://" in address else f"//{address}").hostname or ""
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return False
    return number.is_loopback or number.is_unspecified


def _hidden(value: str) -> str:
    """Put stars for the credentials of every URL in a value."""
    return re.sub(r"(?<=://)[^/@\s]+(?=@)|^[^/@\s:]+:[^/@\s]*(?=@)", "***", value)
