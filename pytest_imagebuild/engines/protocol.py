"""The seam between the plugin and whatever runs containers.

An adapter implements `Engine`; nothing above this package knows which one it talks to. What differs
between engines is data (`Capabilities`). No object of an engine's own library crosses this seam, but
for `Service.native`, which hands a user's test the testcontainers object on the docker engine.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pytest_imagebuild.engines.generations import NO_CLAIMS

if TYPE_CHECKING:
    from pytest_imagebuild.engines.credentials import Credentials
    from pytest_imagebuild.engines.generations import Claims
    from pytest_imagebuild.engines.gpus.inventory import GpuInventory
    from pytest_imagebuild.engines.layers import BasePin, BuiltLayer, LayerLabels
    from pytest_imagebuild.engines.services import ExecResult, ServiceSpec
    from pytest_imagebuild.engines.stored import Remnant, StoredLayer
    from pytest_imagebuild.engines.volumes import StoredVolume, VolumeMount
    from pytest_imagebuild.engines.work import DockerfileWork, Work

__all__ = [
    "Capabilities",
    "Channel",
    "Container",
    "Engine",
    "ExitStatus",
    "Output",
    "Service",
    "SessionSpec",
    "platform_of",
]

Output = Callable[[str], None]
"""Takes one line of live output, without its newline."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """What an engine can do on this machine.

    `platform` is `os/architecture` in OCI terms (`linux/amd64`). `identity` names the store of layers (two
    connections to one daemon have the same); locks are taken per identity. `host_network` says that a container can
    share the network of the machine that pytest runs on, `own_network` that it has another one unless it asks for that.
    `host_address` is the name by which containers reach what listens on the machine of the engine, "" if they cannot.
    `unenforced` maps a limit of `SessionSpec` (`memory`, `cpu`) that cannot hold here to the sentences that say why,
    and what helps.
    """

    engine: str
    version: str
    platform: str
    identity: str
    host_network: bool
    own_network: bool = True
    host_address: str = ""
    unenforced: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionSpec:
    """A container whose main process is a worker; it talks over a `Channel` and ends when that closes.

    `command` is started by the shell of the image where that names one, so that what the shell sets up is there.
    `memory` is in bytes, swap included, `cpu` in cores: what all processes of the container may use together. None is
    no limit. The number of processes is bounded in any case. `gpus` are ids out of `Engine.gpus()`: what the container
    has. `isolate` asks for the two mounts of `worker/isolation.py`, by which a worker gives each test a pristine file
    system; an engine that cannot make them leaves them out. `volumes` are mounted as in a `Work`; every such file
    system has them.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    network: str = "default"
    memory: int | None = None
    cpu: float | None = None
    gpus: tuple[str, ...] = ()
    isolate: bool = False
    volumes: tuple[VolumeMount, ...] = ()


class ExitStatus(NamedTuple):
    """How a container's main process ended. `code` is 128 + signal for a killed one, None if not known."""

    code: int | None
    out_of_memory: bool = False
    detail: str = ""

    @classmethod
    def of(cls, code: int, *, out_of_memory: bool = False) -> ExitStatus:
        """Say of a code what it means. `out_of_memory` is what is known of a process that got SIGKILL."""
        if code == 128 + signal.SIGKILL and out_of_memory:
            return cls(code=code, out_of_memory=True, detail="the kernel killed it: out of memory")
        try:
            return cls(code=code, detail=f"killed by {signal.Signals(code - 128).name}")
        except ValueError:
            return cls(code=code)


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

    def gpus(self) -> GpuInventory:
        """Return the GPUs that its containers can have; the first call looks for them."""

    def layers(self, namespace: str = "") -> Mapping[str, BuiltLayer]:
        """Return every finished layer of a namespace by its key, in one look-up."""

    def find(self, key: str, namespace: str = "") -> BuiltLayer | None:
        """Return the finished layer of a key."""

    def pin_base(self, reference: str, output: Output, credentials: Credentials | None = None) -> BasePin:
        """Ask what `reference` stands for today.

        `credentials` are for its registry, in the place of those that the engine finds in the user's configuration;
        no mirror gets them.
        """

    def import_base(
        self,
        reference: str,
        pin: BasePin,
        labels: LayerLabels,
        output: Output,
        credentials: Credentials | None = None,
    ) -> BuiltLayer:
        """Bring the pinned base image into the engine, verified, as a layer."""

    def build(self, parent: BuiltLayer, work: Work, labels: LayerLabels, output: Output) -> BuiltLayer:
        """Execute `work` in a container of `parent` and keep the result as the layer of `labels.key`.

        A layer of that key which is there already is replaced. Nothing is kept when a command fails.
        """

    def build_dockerfile(
        self, parent: BuiltLayer | None, work: DockerfileWork, labels: LayerLabels, output: Output
    ) -> BuiltLayer:
        """Execute a Dockerfile and keep what comes of its target as the layer of `labels.key`, as `build` does.

        The first `FROM` stands for `parent`, unless that is None. Raises DockerfileError, before anything runs, for a
        line that this engine cannot do, and CommandFailed at the line of a `RUN` that failed.
        """

    def run(self, parent: BuiltLayer, work: Work, output: Output) -> bytes:
        """Execute `work` in a throw-away container of `parent`; return its standard output.

        Error output goes to `output`.
        """

    def start(self, layer: BuiltLayer, spec: SessionSpec) -> Container:
        """Start a session container."""

    def serve(self, layer: BuiltLayer, spec: ServiceSpec) -> Service:
        """Start a service container."""

    def sweep(self, claimed: Claims = NO_CLAIMS) -> int:
        """Remove what dead runs on this machine left behind; return how many things.

        Of what no key leads to any more, that stays which is younger than an hour, and what living runs have `claimed`
        before it was replaced.
        """

    def drop(self, namespace: str) -> None:
        """Remove every layer of a throw-away namespace."""

    def stored(self) -> Sequence[StoredLayer]:
        """Return every finished layer of the cache proper, with the bytes that each holds."""

    def remnants(self, claimed: Claims = NO_CLAIMS) -> Sequence[Remnant]:
        """Return what no key leads to and no living run can still want, in an order in which it can be removed.

        What stays is what stays in a `sweep`.
        """

    def remove(self, item: StoredLayer | Remnant) -> int | None:
        """Remove it and return the bytes freed; None where it stays.

        It stays where a container needs it or another layer stands on it at the moment of the call. An item that is
        gone already frees nothing. Who calls this holds `Uses.removing`, so that no run of this machine begins to use
        the layer meanwhile.
        """

    def volumes(self) -> Sequence[StoredVolume]:
        """Return every named volume, sorted by name."""

    def has_volume(self, name: str) -> bool:
        """Say whether there is a named volume of that name."""

    def make_volume(self, name: str, *, ephemeral: bool = False) -> None:
        """Have an empty volume of that name, or the one that is there already.

        An ephemeral one belongs to this process: `close` removes it, and a sweep where the process died before. Its
        name is its own, beside those of named volumes and of other processes.
        """

    def remove_volume(self, name: str) -> int | None:
        """Remove a named volume and return the bytes freed, 0 where it is gone; None where a container has it mounted.

        Nothing else removes one.
        """

    def load(self, archive: Path, name: str, output: Output) -> tuple[str, ...]:
        """Bring the images of an archive (`docker save`, or a tar of an OCI layout) into the engine.

        Return the references under which `pin_base` finds them then, as `local`, in the short form (`name:tag` for
        `docker.io/library/name:tag`). `name` is the reference for an image to which the archive gives none, and may be
        empty. Raises BaseImageError for an archive that cannot be read, and for an image that has no name then.
        """

    def save(self, layer: BuiltLayer, target: Path, name: str, output: Output) -> None:
        """Write the image of a layer to the new file `target`: an OCI layout that every `docker load` takes as well.

        `name` is what it is called there, as `name:tag`. What was at `target` stays until the archive is whole; it
        holds nothing by which an engine of ours would take the image for a layer. Raises EngineError.
        """

    def close(self) -> None:
        """Stop what this process started and let go of the connection."""


_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i386": "386", "i686": "386"}


def platform_of(system: str, machine: str) -> str:
    """Return `os/architecture` in OCI terms, for a machine as the kernel names it (uname(2))."""
    return f"{system}/{_ARCHITECTURES.get(machine, machine)}"
