"""Specifications of the Container Device Interface: what a container needs for a device, said by its vendor.

Files and fields as in the CDI specification, version 1.1 (tags.cncf.io/container-device-interface, SPEC.md).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["FOLDERS", "CdiDevice", "CdiMount", "DeviceNode", "Edits", "Hook", "Specifications", "cdi_folders", "read"]

FOLDERS = (Path("/etc/cdi"), Path("/var/run/cdi"))
"""Where specifications are; those of a later folder win."""

VARIABLE = "IMAGEBUILD_CDI_DIRS"


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceNode:
    """A device of this machine that a container has at `path`."""

    path: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CdiMount:
    """A file or folder of this machine that a container sees at `target`."""

    source: str
    target: str
    writable: bool
    kind: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hook:
    """A program that a container runtime would run for the container, and its arguments without its own name."""

    program: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Edits:
    """What is changed in a container that has a device."""

    nodes: tuple[DeviceNode, ...] = ()
    mounts: tuple[CdiMount, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    hooks: tuple[Hook, ...] = ()

    def __add__(self, other: Edits) -> Edits:
        return Edits(
            nodes=(*self.nodes, *other.nodes),
            mounts=(*self.mounts, *other.mounts),
            environment=(*self.environment, *other.environment),
            hooks=(*self.hooks, *other.hooks),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class CdiDevice:
    """A device. `edits` are its own, `shared` those of every device of its specification."""

    kind: str
    name: str
    edits: Edits
    shared: Edits = field(default_factory=Edits)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def qualified(self) -> str:
        """The name by which an engine is asked for it: `vendor.com/class=name`."""
        return f"{self.kind}={self.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Specifications:
    """The devices of all specifications, and a sentence for each file that could not be used."""

    devices: tuple[CdiDevice, ...] = ()
    problems: tuple[str, ...] = ()


def cdi_folders(environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Return the folders of specifications: those of `IMAGEBUILD_CDI_DIRS`, else where they usually are."""
    named = environment.get(VARIABLE)
    return tuple(Path(part) for part in named.split(os.pathsep) if part) if named else FOLDERS


def read(folders: Sequence[Path]) -> Specifications:
    """Read every specification. Of two devices of one name that of the later folder counts, in one folder none does."""
    devices: dict[str, CdiDevice] = {}
    problems: list[str] = []
    for folder in folders:
        here: dict[str, CdiDevice] = {}
        twice: set[str] = set()
        for file in _files(folder):
            try:
                found = tuple(_devices(_load(file)))
            except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
                problems.append(f"{file}, which cannot be used: {_reason(error)}")
                continue
            twice.update(device.qualified for device in found if device.qualified in here)
            here.update({device.qualified: device for device in found})
        problems += [f"{folder}, which describes {name} twice" for name in sorted(twice)]
        devices.update(here)
        for name in twice:
            del devices[name]
    return Specifications(devices=tuple(devices.values()), problems=tuple(problems))


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in {".json", ".yaml"})
    except OSError:
        return []


def _load(file: Path) -> Any:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".json":
        return json.loads(text)
    try:
        import yaml  # noqa: PLC0415 - an extra, needed where a specification is YAML
    except ImportError:
        raise ValueError("it is YAML; `pip install 'pytest-imagebuild[gpu]'` to read it") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _devices(data: Any) -> Iterator[CdiDevice]:
    kind = data["kind"]
    if not isinstance(kind, str) or kind.count("/") != 1:
        raise ValueError(f"its kind is {kind!r}, not vendor/class")
    shared = _edits(data.get("containerEdits") or {})
    for device in data["devices"]:
        yield CdiDevice(
            kind=kind,
            name=str(device["name"]),
            edits=_edits(device.get("containerEdits") or {}),
            shared=shared,
            annotations={**(data.get("annotations") or {}), **(device.get("annotations") or {})},
        )


def _edits(data: Mapping[str, Any]) -> Edits:
    return Edits(
        nodes=tuple(
            DeviceNode(path=node["path"], source=node.get("hostPath") or node["path"])
            for node in data.get("deviceNodes") or ()
        ),
        mounts=tuple(map(_mount, data.get("mounts") or ())),
        environment=tuple(_pairs(data.get("env") or ())),
        hooks=tuple(
            Hook(program=Path(hook["path"]).name, arguments=tuple((hook.get("args") or ())[1:]))
            for hook in data.get("hooks") or ()
        ),
    )


def _mount(data: Mapping[str, Any]) -> CdiMount:
    options = data.get("options") or ()
    return CdiMount(
        source=data["hostPath"], target=data["containerPath"], writable="ro" not in options, kind=data.get("type") or ""
    )


def _pairs(variables: Iterable[str]) -> Iterator[tuple[str, str]]:
    for variable in variables:
        name, equals, value = variable.partition("=")
        if not equals or not name:
            raise ValueError(f"its variable {variable!r} is not NAME=VALUE")
        yield name, value


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return str(getattr(error, "strerror", None) or error)
