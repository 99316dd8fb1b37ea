"""What an image builder version fixes: Debian, Python series, tools and their pins.

The values live in data files (`pytest_imagebuild/builder_versions/*.toml`); reading them is the work of others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_imagebuild.errors import ImageBuildError

__all__ = ["Builder"]

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Builder:
    """One image builder version.

    `python_series` are the series that `debian_slim` offers ("3.13"). `uv_wheels` maps a platform ("linux/amd64",
    "linux/arm64") to the sha256 of uv's wheel for it, `uv_wheel_files` to the wheel's file name on PyPI.
    `command` is what a `debian_slim` container runs when it is told nothing else. `python_versions` maps a series to
    the full version that `debian_slim` takes for it; a series that is not in it stays as it is. `standalone_python`
    maps each series that `add_python` offers ("3.14t" is free-threaded) to the full version that it installs.
    """

    version: str
    debian_codename: str
    python_series: tuple[str, ...]
    apt_tools: tuple[str, ...]
    pip_tools: tuple[str, ...]
    uv_version: str
    uv_wheels: Mapping[str, str] = field(hash=False)
    uv_wheel_files: Mapping[str, str] = field(hash=False)
    micromamba_tag: str | None = None
    command: tuple[str, ...] = ()
    python_versions: Mapping[str, str] = field(default_factory=dict, hash=False)
    standalone_python: Mapping[str, str] = field(default_factory=dict, hash=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Builder:
        """Read the shape of a `builder_versions/*.toml` file; raise `ImageBuildError` that names the faulty key."""
        table = _Table(f"image builder {data.get('version', '?')}", data)
        uv = table.table("uv")
        wheels = uv.table("wheels")
        builder = cls(
            version=table.text("version"),
            debian_codename=table.text("debian_codename"),
            python_series=table.texts("python_series"),
            apt_tools=table.texts("apt_tools"),
            pip_tools=table.texts("pip_tools"),
            uv_version=uv.text("version"),
            uv_wheels={platform: wheels.table(platform).sha256("sha256") for platform in wheels.values},
            uv_wheel_files={platform: wheels.table(platform).text("file") for platform in wheels.values},
            micromamba_tag=table.text("micromamba_tag") if "micromamba_tag" in data else None,
            command=table.texts("command") if "command" in data else (),
            python_versions=table.table("python_versions").all_texts() if "python_versions" in data else {},
            standalone_python=table.table("standalone_python").all_texts() if "standalone_python" in data else {},
        )
        table.reject_others(
            set(builder.to_dict()) | {"micromamba_tag", "command", "python_versions", "standalone_python"}
        )
        uv.reject_others({"version", "wheels"})
        return builder

    def to_dict(self) -> dict[str, object]:
        """Give what `from_dict` reads, as dicts, lists and strings."""
        wheels = {
            platform: {"file": self.uv_wheel_files[platform], "sha256": sha256}
            for platform, sha256 in self.uv_wheels.items()
        }
        data: dict[str, object] = {
            "version": self.version,
            "debian_codename": self.debian_codename,
            "python_series": list(self.python_series),
            "apt_tools": list(self.apt_tools),
            "pip_tools": list(self.pip_tools),
            "uv": {"version": self.uv_version, "wheels": wheels},
        }
        if self.micromamba_tag is not None:
            data["micromamba_tag"] = self.micromamba_tag
        if self.command:
            data["command"] = list(self.command)
        if self.python_versions:
            data["python_versions"] = dict(self.python_versions)
        if self.standalone_python:
            data["standalone_python"] = dict(self.standalone_python)
        return data


class _Table:
    """A table of the data file that knows its path, so that an error can name the key at fault."""

    def __init__(self, path: str, values: Mapping[str, object]) -> None:
        self.path = path
        self.values = values

    def text(self, key: str) -> str:
        value = self._get(key)
        if not isinstance(value, str) or not value:
            raise self._error(key, f"must be a non-empty string, got {value!r}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._get(key)
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) and item for item in value):
            raise self._error(key, f"must be a list of non-empty strings, got {value!r}")
        return tuple(value)

    def all_texts(self) -> dict[str, str]:
        return {key: self.text(key) for key in self.values}

    def sha256(self, key: str) -> str:
        value = self.text(key)
        if not _SHA256.fullmatch(value):
            raise self._error(key, f"must be 64 lower-case hexadecimal digits, got {value!r}")
        return value

    def table(self, key: str) -> _Table:
        value = self._get(key)
        if not isinstance(value, Mapping):
            raise self._error(key, f"must be a table, got {value!r}")
        return _Table(f"{self.path}: {key}", value)

    def reject_others(self, known: set[str]) -> None:
        others = sorted(set(self.values) - known)
        if others:
            raise self._error(others[0], "is not a key of this file")

    def _get(self, key: str) -> object:
        if key not in self.values:
            raise self._error(key, "is missing")
        return self.values[key]

    def _error(self, key: str, problem: str) -> ImageBuildError:
        return ImageBuildError(f"{self.path}: {key} {problem}")
