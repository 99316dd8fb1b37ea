"""What a worker is told at its start, and how requests are written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from pytest_imagebuild.worker.protocol import PROTOCOL

__all__ = ["Setup", "encoded"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What a worker is told at its start.

    The files `removed` go, `directories` are made, then `payload`, an uncompressed tar, is extracted under `root`.
    `path` goes in front of `sys.path`, `environment` on top of the container's. `args`, `options`, `plugins` (for
    `-p`), `rootdir` and `inifile` are for pytest; `ini_names` and `markers` are registered where nothing in the
    container knows them. `options` holds only what JSON knows. `isolate` lets each item run in a copy of the worker
    with a file system of its own, where that is possible: `Collected.isolates` says so.

    With `junit`, what tests write into the JUnit file is told. With `coverage`, `source`, `branch`, `config` and
    `contexts` as pytest-cov has them, what runs is measured. `blocked` are plugins that are not loaded.
    `width` is that of the terminal, in characters.

    With `shows` too, pytest does in the container what the command line says, and its output is all that comes of it.

    With `describe`, `args` are the command line of the run, which pytest reads as it would on its own, with `addopts`
    and with the `foreign_options` of plugins that are on the host only; `options` are put on top. The worker tells what
    it can read, and all that it collects.
    """

    cwd: str
    rootdir: str
    inifile: str | None = None
    args: tuple[str, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    directories: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    ini_names: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()
    root: str = "/"
    isolate: bool = False
    describe: bool = False
    junit: bool = False
    coverage: Mapping[str, object] | None = None
    blocked: tuple[str, ...] = ()
    width: int = 80
    shows: bool = False
    foreign_options: tuple[Mapping[str, object], ...] = ()
    payload: bytes = field(default=b"", repr=False)

    def line(self) -> bytes:
        """Return the `setup` request, without the payload that follows it."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return encoded({"type": "setup", "protocol": PROTOCOL, **values, "payload": len(self.payload)})


def encoded(request: Mapping[str, object]) -> bytes:
    """Return a request as a line of the wire."""
    return json.dumps(request, separators=(",", ":")).encode("ascii") + b"\n"
