"""The seam between the plugin and whatever runs containers.

An adapter implements `Engine`; nothing above this package knows which one it talks to. What differs
between engines is data (`Capabilities`). No object of an engine's own library crosses this seam, but
for `Service.native`, which hands a user's test the testcontainers object on the docker engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

__all__ = [
    "BasePin",
    "BuiltLayer",
    "Capabilities",
    "Channel",
    "CommandFailed",
    "ConfigChange",
    "Container",
    "Engine",
    "ExecResult",
    "ExitStatus",
    "FileEntry",
    "LayerLabels",
    "Output",
    "Remnant",
    "Service",
    "ServiceSpec",
    "SessionSpec",
    "StoredLayer",
    "Work",
]

Output = Callable[[str], None]
"""Takes one line of live output, without its newline."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """What an engine can do on this machine.

    `platform` is `os/architecture` in OCI terms (`linux/amd64`). `identity` names the store of layers (two
    connections to one daemon have the same); locks are taken per identity. `host_network` says that a container can
    share the network of the machine that pytest runs on, `own_network` that it has another one unless it asks for that.
    `unenforced` maps a limit of `SessionSpec` (`memory`, `cpu`)
    that cannot hold here to the sentences that say why, and what helps.
    """

    engine: str
    version: str
    platform: str
    identity: str
    host_network: bool
    own_network: bool = True
    unenforced: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class BasePin:
    """What a base reference stands for: a registry digest, or the digest of a bootstrapped archive.

    `digest` is `sha256:` and 64 hex digits; `source` is `registry`, `bootstrap`, or `local` for an image that the
    user made in the engine himself (its digest is the id of the image, and means something in that engine only).
    """

    digest: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerLabels:
    """What a built layer carries in the engine, so that the engine is the only index.

    `key` is the layer key; `generation` is empty unless a forced build replaced the layer; `run` is the
    run that built it; `namespace` is empty in the cache proper, else the run that owns the throw-away
    layer. `inputs` are digests or short texts of what the key is made of, to explain a miss.
    """

    key: str
    parent: str
    generation: str
    run: str
    namespace: str = ""
    step: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltLayer:
    """A finished layer in an engine. `reference` is what the engine starts a container of.

    `size` is bytes including the layers below, `created` seconds since the epoch.
    """

    labels: LayerLabels
    reference: str
    size: int
    created: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredLayer:
    """A finished layer of the cache, as housekeeping sees it.

    `own_size` is the bytes that it holds: without the layers below, and without what is not ours (a base image that the
    user has as an image of his own). What several layers hold, as two of one base image, counts for the newest of them,
    so that the sum is what all of them hold. `in_use` says that a container needs it now.
    """

    built: BuiltLayer
    own_size: int
    in_use: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Remnant:
    """Something in the engine's store that no key leads to.

    It is what a dead run left, a replaced generation, a base image or blob that no layer needs, or a broken-off
    download. `name` is how the engine finds it again, `what` is for people, `size` is the bytes that it holds.
    """

    name: str
    what: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """One file of a build context or of a tool: a regular file from `source` or from `data`.

    `path` is absolute inside the container, `mode` the twelve low bits.
    """

    path: str
    mode: int
    source: Path | None = None
    data: bytes | None = None
    sha256: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigChange:
    """Changes of the image configuration that a layer makes. None leaves the parent's value.

    A relative `workdir` is below the parent's; the engine makes its folder in the layer.
    """

    environment: tuple[tuple[str, str], ...] = ()
    workdir: str | None = None
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What happens in a container of the parent: files are put in place, then commands run in order.

    Each command is a script for `/bin/sh -c`, run as root with no standard input; the first that fails ends the
    work. `environment` and `tools` are there for the commands only: they leave no trace in the layer, its
    configuration or its history.
    """

    files: tuple[FileEntry, ...] = ()
    commands: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    tools: tuple[FileEntry, ...] = ()
    config: ConfigChange = field(default_factory=ConfigChange)
    network: str = "default"
    """`default`, `host` or `none`."""


class CommandFailed(Exception):
    """A command of a `Work` ended with a status other than zero. `index` is its place in `commands`."""

    def __init__(self, *, index: int, exit_code: int, output: str) -> None:
        super().__init__(f"command {index} ended with exit code {exit_code}")
        self.index = index
        self.exit_code = exit_code
        self.output = output


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionSpec:
    """A container whose main process is a worker; it talks over a `Channel` and ends when that closes.

    `memory` is in bytes, swap included, `cpu` in cores: what all processes of the container may use together. None is
    no limit. The number of processes is bounded in any case. `isolate` asks for the two mounts of
    `worker/isolation.py`, by which a worker gives each test a pristine file system; an engine that cannot make them
    leaves them out.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    network: str = "default"
    memory: int | None = None
    cpu: float | None = None
    isolate: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceSpec:
    """A container for a host test to talk to. An empty `command` runs the image's own."""

    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ExitStatus:
    """How a container's main process ended. `code` is 128 + signal for a killed one, None if not known."""

    code: int | None
    out_of_memory: bool = False
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecResult:
    """A command that ran in a container: exit code and both streams."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class Channel(Protocol):
    """A byte stream to the main process of a container: its input, its output, its error output."""

    def send(self, data: bytes) -> None:
        """Write all of `data`. Raises EngineError when the other side is gone."""

    def receive(self, timeout: float | None) -> bytes | None:
        """Return the next bytes of the output; b"" at its end; None when `timeout` seconds passed."""

    def error_output(self) -> bytes:
        """Return the last bytes (bounded) that came on the error output so far."""

    def close(self) -> None:
        """Close both directions. The worker ends then."""


class Container(Protocol):
    """A running session container."""

    @property
    def id(self) -> str:
        """The engine's name of it."""

    @property
    def channel(self) -> Channel:
        """The stream to its main process."""

    def wait(self, timeout: float) -> ExitStatus:
        """Wait up to `timeout` seconds for the main process to end."""

    def stop(self) -> None:
        """Kill and remove it. Calling it again does nothing."""


class Service(Protocol):
    """A running container of `image_container`."""

    @property
    def native(self) -> object:
        """What the wait strategies of testcontainers take: on the docker engine its `DockerContainer`."""

    def port(self, container_port: int) -> tuple[str, int]:
        """Return the host and port on which `container_port` can be reached from the test."""

    def exec(self, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> ExecResult:
        """Run a command in the container."""

    def logs(self) -> str:
        """Return what the container printed so far, both streams."""

    def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Put a file at an absolute path inside."""

    def read(self, path: str) -> bytes:
        """Return the content of a file inside. Raises FileNotFoundError."""

    def stop(self) -> None:
        """Kill and remove it. Calling it again does nothing."""


class Engine(Protocol):
    """Something that stores layers and runs containers of them. Methods may be called from several threads.

    Errors: EngineUnavailableError when nothing answers, EngineError for a refused call, BaseImageError
    for a base image that cannot be had, CommandFailed for a command of a `Work`.
    """

    @property
    def name(self) -> str:
        """The name it is chosen by."""

    def capabilities(self) -> Capabilities:
        """Return what it can do here; the first call contacts it."""

    def layers(self, namespace: str = "") -> Mapping[str, BuiltLayer]:
        """Return every finished layer of a namespace by its key, in one look-up."""

    def find(self, key: str, namespace: str = "") -> BuiltLayer | None:
        """Return the finished layer of a key."""

    def pin_base(self, reference: str, output: Output) -> BasePin:
        """Ask what `reference` stands for today."""

    def import_base(self, reference: str, pin: BasePin, labels: LayerLabels, output: Output) -> BuiltLayer:
        """Bring the pinned base image into the engine, verified, as a layer."""

    def build(self, parent: BuiltLayer, work: Work, labels: LayerLabels, output: Output) -> BuiltLayer:
        """Execute `work` in a container of `parent` and keep the result as the layer of `labels.key`.

        A layer of that key which is there already is replaced. Nothing is kept when a command fails.
        """

    def run(self, parent: BuiltLayer, work: Work, output: Output) -> bytes:
        """Execute `work` in a throw-away container of `parent`; return its standard output.

        Error output goes to `output`.
        """

    def start(self, layer: BuiltLayer, spec: SessionSpec) -> Container:
        """Start a session container."""

    def serve(self, layer: BuiltLayer, spec: ServiceSpec) -> Service:
        """Start a service container."""

    def sweep(self) -> int:
        """Remove what dead runs on this machine left behind; return how many things."""

    def drop(self, namespace: str) -> None:
        """Remove every layer of a throw-away namespace."""

    def stored(self) -> Sequence[StoredLayer]:
        """Return every finished layer of the cache proper, with the bytes that each holds."""

    def remnants(self) -> Sequence[Remnant]:
        """Return what no key leads to and no living run can still want, in an order in which it can be removed."""

    def remove(self, item: StoredLayer | Remnant) -> int | None:
        """Remove it and return the bytes freed; None where it stays.

        It stays where a container needs it or another layer stands on it at the moment of the call. An item that is
        gone already frees nothing. Who calls this holds `Uses.removing`, so that no run of this machine begins to use
        the layer meanwhile.
        """

    def load(self, archive: Path, name: str, output: Output) -> tuple[str, ...]:
        """Bring the images of an archive (`docker save`, or a tar of an OCI layout) into the engine.

        Return the references under which `pin_base` finds them then, as `local`, in the short form (`name:tag` for
        `docker.io/library/name:tag`). `name` is the reference for an image to which the archive gives none, and may be
        empty. Raises BaseImageError for an archive that cannot be read, and for an image that has no name then.
        """

    def close(self) -> None:
        """Stop what this process started and let go of the connection."""


def tar_entries(files: Iterable[FileEntry]) -> Iterable[FileEntry]:
    """Yield `files` sorted by path, a later entry of the same path winning."""
    return (entry for _, entry in sorted({entry.path: entry for entry in files}.items()))
