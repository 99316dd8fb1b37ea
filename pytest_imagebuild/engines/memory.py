"""An engine without containers: it keeps layers in memory and records what it is asked.

For tests of plugins and of ourselves. What commands do is what the test says::

    engine = MemoryEngine(commands=lambda command, work: CommandResult(stdout=b"3.13"))
    engine.fail["pin_base"] = BaseImageError("no such image")
    ...
    assert [call.name for call in engine.calls] == ["pin_base", "import_base", "build"]
"""

from __future__ import annotations

import hashlib
import itertools
import signal
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_imagebuild.dockerfile import Run, read
from pytest_imagebuild.engines.credentials import Credentials
from pytest_imagebuild.engines.entries import read_entry
from pytest_imagebuild.engines.generations import NO_CLAIMS, Claims
from pytest_imagebuild.engines.gpus.inventory import GpuInventory
from pytest_imagebuild.engines.layers import BasePin, BuiltLayer, LayerLabels
from pytest_imagebuild.engines.protocol import Capabilities, Container, Output, Service, SessionSpec
from pytest_imagebuild.engines.services import ServiceSpec
from pytest_imagebuild.engines.stored import Remnant, StoredLayer
from pytest_imagebuild.engines.volumes import StoredVolume, VolumeMount, missing_volume
from pytest_imagebuild.engines.work import CommandFailed, DockerfileWork, Work
from pytest_imagebuild.errors import BaseImageError, EngineError

__all__ = ["Call", "CommandResult", "Commands", "MemoryEngine", "MemoryImage"]

_KILLED = 128 + signal.SIGKILL


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandResult:
    """What a command is said to do: `seconds` is how long it takes, which nobody waits for."""

    exit_code: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    seconds: float = 0.0
    out_of_memory: bool = False


Commands = Callable[[str, Work], CommandResult]
"""Says what one command of a `Work` does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One call of the engine: its name, and its arguments without `output`."""

    name: str
    arguments: tuple[object, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryImage:
    """What a layer holds: its files (path to content), commands in the order of their execution, and configuration."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    workdir: str = "/"
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()


class MemoryEngine:
    """An engine in memory.

    `bases` are the references that it knows; None means any. `fail` maps the name of a method to the exception that it
    raises. `sessions` and `services` make what `start` and `serve` return. `in_use` are keys of layers that a container
    is said to need, `mounted` names of volumes that one is said to have. `ephemeral` are the volumes of this process,
    `gpus` what it says that containers can have.
    """

    name = "memory"

    def __init__(
        self,
        *,
        run: str = "memory",
        cache_dir: Path | None = None,  # noqa: ARG002 - as every engine takes it
        commands: Commands | None = None,
        bases: Mapping[str, BasePin] | None = None,
        sessions: Callable[[BuiltLayer, SessionSpec], Container] | None = None,
        services: Callable[[BuiltLayer, ServiceSpec], Service] | None = None,
        platform: str = "linux/amd64",
        gpus: GpuInventory | None = None,
    ) -> None:
        self.run_id = run
        self.calls: list[Call] = []
        self.fail: dict[str, BaseException] = {}
        self.images: dict[str, MemoryImage] = {}
        self.in_use: set[str] = set()
        self.mounted: set[str] = set()
        self.ephemeral: set[str] = set()
        self._volumes: dict[str, float] = {}
        self._loaded: dict[str, BasePin] = {}
        self.bases = bases
        self._commands = commands or (lambda _command, _work: CommandResult())
        self._sessions = sessions
        self._services = services
        self._platform = platform
        self._gpus = gpus or GpuInventory(looked_at=("the memory of the engine",))
        self._layers: dict[tuple[str, str], BuiltLayer] = {}
        self._numbers = itertools.count(1)
        self._identity = f"memory-{uuid.uuid4().hex}"
        self._changing = threading.Lock()

    def capabilities(self) -> Capabilities:
        """Return what it claims to be."""
        self._called("capabilities")
        return Capabilities(
            engine=self.name, version="1", platform=self._platform, identity=self._identity, host_network=False
        )

    def gpus(self) -> GpuInventory:
        """Return what it claims to have."""
        self._called("gpus")
        return self._gpus

    def layers(self, namespace: str = "") -> Mapping[str, BuiltLayer]:
        """Return every layer of a namespace by its key."""
        self._called("layers", namespace)
        with self._changing:
            return {key: layer for (owner, key), layer in self._layers.items() if owner == namespace}

    def find(self, key: str, namespace: str = "") -> BuiltLayer | None:
        """Return the layer of a key."""
        self._called("find", key, namespace)
        return self._layers.get((namespace, key))

    def pin_base(self, reference: str, output: Output, credentials: Credentials | None = None) -> BasePin:  # noqa: ARG002
        """Return the pin of a known base, else one that is made of the reference."""
        self._called("pin_base", reference, *_given(credentials))
        return self._pin(reference)

    def import_base(
        self,
        reference: str,
        pin: BasePin,
        labels: LayerLabels,
        output: Output,  # noqa: ARG002
        credentials: Credentials | None = None,
    ) -> BuiltLayer:
        """Make an empty layer."""
        self._called("import_base", reference, pin, labels, *_given(credentials))
        if pin != self._pin(reference):
            message = f"{reference} is pinned to {pin.digest}, but it is {self._pin(reference).digest} in memory"
            raise BaseImageError(message)
        return self._keep(MemoryImage(), labels)

    def build(self, parent: BuiltLayer, work: Work, labels: LayerLabels, output: Output) -> BuiltLayer:
        """Execute the commands as the test says, and keep the layer."""
        self._called("build", parent, work, labels)
        image = self._image(parent)
        self._check_volumes(work.volumes)
        for part in self._execute(work, output):
            for line in part.stdout.decode(errors="replace").splitlines():
                output(line)
        return self._keep(_changed(image, work), labels)

    def build_dockerfile(
        self, parent: BuiltLayer | None, work: DockerfileWork, labels: LayerLabels, output: Output
    ) -> BuiltLayer:
        """Execute each `RUN` of the last stage as the test says, and keep the layer; files are not copied."""
        self._called("build_dockerfile", parent, work, labels)
        dockerfile = read(
            work.text, build_args=work.build_args, platform=self._platform, target=work.target, on_parent=bool(parent)
        )
        dockerfile.check_platform(self._platform)
        stage = dockerfile.stages[dockerfile.target]
        below = parent if dockerfile.stands_on_parent(stage.number) else work.bases.get(stage.image)
        image = self._image(below) if below is not None else MemoryImage()
        for item in stage.instructions:
            if isinstance(item, Run):
                done = Work(commands=(" ".join(item.argv),), environment=work.variables)
                try:
                    self._execute(done, output)
                except CommandFailed as failure:
                    raise CommandFailed(index=item.line, exit_code=failure.exit_code, output=failure.output) from None
                image = _changed(image, done)
        return self._keep(image, labels)

    def run(self, parent: BuiltLayer, work: Work, output: Output) -> bytes:
        """Execute the commands as the test says, and return their standard output."""
        self._called("run", parent, work)
        self._image(parent)
        self._check_volumes(work.volumes)
        return b"".join(result.stdout for result in self._execute(work, output))

    def start(self, layer: BuiltLayer, spec: SessionSpec) -> Container:
        """Return what `sessions` makes."""
        self._called("start", layer, spec)
        self._check_volumes(spec.volumes)
        if self._sessions is None:
            raise EngineError("the memory engine runs no containers: give it `sessions`, or choose another engine")
        return self._sessions(layer, spec)

    def serve(self, layer: BuiltLayer, spec: ServiceSpec) -> Service:
        """Return what `services` makes."""
        self._called("serve", layer, spec)
        if self._services is None:
            raise EngineError("the memory engine runs no containers: give it `services`, or choose another engine")
        return self._services(layer, spec)

    def sweep(self, claimed: Claims = NO_CLAIMS) -> int:
        """Nothing is ever left over."""
        self._called("sweep", claimed)
        return 0

    def drop(self, namespace: str) -> None:
        """Remove every layer of a throw-away namespace."""
        self._called("drop", namespace)
        if not namespace:
            raise EngineError("the layers of the cache are not thrown away as a whole")
        with self._changing:
            self._layers = {place: layer for place, layer in self._layers.items() if place[0] != namespace}

    def stored(self) -> Sequence[StoredLayer]:
        """Return every layer of the cache proper; one that `in_use` names is in use."""
        self._called("stored")
        with self._changing:
            layers = {key: layer for (owner, key), layer in self._layers.items() if not owner}
        return [
            StoredLayer(
                built=layer,
                own_size=layer.size - (layers[layer.labels.parent].size if layer.labels.parent in layers else 0),
                in_use=layer.labels.key in self.in_use,
            )
            for layer in layers.values()
        ]

    def remnants(self, claimed: Claims = NO_CLAIMS) -> Sequence[Remnant]:
        """Nothing is ever left over."""
        self._called("remnants", claimed)
        return ()

    def remove(self, item: StoredLayer | Remnant) -> int | None:
        """Remove a layer that is not in use and on which no other stands."""
        self._called("remove", item)
        if isinstance(item, Remnant):
            return 0
        key = item.built.labels.key
        with self._changing:
            current = self._layers.get(("", key))
            if current is None:
                return 0
            needed = any(not owner and layer.labels.parent == key for (owner, _), layer in self._layers.items())
            if current != item.built or needed or key in self.in_use:
                return None
            del self._layers["", key]
        return item.own_size

    def volumes(self) -> Sequence[StoredVolume]:
        """Return the named volumes, which hold nothing; those that `mounted` names are in use."""
        self._called("volumes")
        return [
            StoredVolume(name=name, size=0, created=created, in_use=name in self.mounted)
            for name, created in sorted(self._volumes.items())
        ]

    def has_volume(self, name: str) -> bool:
        """Say whether there is a named volume of that name."""
        self._called("has_volume", name)
        return name in self._volumes

    def make_volume(self, name: str, *, ephemeral: bool = False) -> None:
        """Have a volume of that name."""
        self._called("make_volume", name, ephemeral)
        with self._changing:
            if ephemeral:
                self.ephemeral.add(name)
            else:
                self._volumes.setdefault(name, time.time())

    def remove_volume(self, name: str) -> int | None:
        """Remove a named volume unless it is in use."""
        self._called("remove_volume", name)
        with self._changing:
            if name in self.mounted:
                return None
            self._volumes.pop(name, None)
        return 0

    def load(self, archive: Path, name: str, output: Output) -> tuple[str, ...]:  # noqa: ARG002
        """Take the archive for one image: `name`, else the name of the file with the tag `latest`."""
        self._called("load", archive, name)
        reference = name or f"{archive.stem}:latest"
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        self._loaded[reference] = BasePin(digest=f"sha256:{digest}", source="local")
        return (reference,)

    def save(self, layer: BuiltLayer, target: Path, name: str, output: Output) -> None:
        """Write an archive whose one layer holds the files of the image."""
        # It loads what other uses of this engine do not need.
        from pytest_imagebuild.engines.oci.saving import bare_config, files_layer, save, time_text  # noqa: PLC0415

        self._called("save", layer, target, name)
        image = self._image(layer)
        config = {
            "Env": [f"{variable}={value}" for variable, value in image.environment.items()],
            "WorkingDir": image.workdir,
            "Cmd": list(image.command),
            "Entrypoint": list(image.entrypoint),
        }
        about = bare_config(self._platform, time_text(layer.created), config)
        save(target, name, about, [files_layer(image.files)] if image.files else [], output)

    def close(self) -> None:
        """Record the call, and forget the volumes of this process."""
        self._called("close")
        self.ephemeral.clear()

    def _called(self, name: str, *arguments: object) -> None:
        with self._changing:
            self.calls.append(Call(name=name, arguments=arguments))
        if name in self.fail:
            raise self.fail[name]

    def _pin(self, reference: str) -> BasePin:
        if reference in self._loaded:
            return self._loaded[reference]
        if self.bases is None:
            return BasePin(digest=f"sha256:{hashlib.sha256(reference.encode()).hexdigest()}", source="registry")
        try:
            return self.bases[reference]
        except KeyError:
            known = ", ".join(sorted(self.bases)) or "none"
            message = f"the base image {reference} was asked of the memory engine, which knows {known}: give it `bases`"
            raise BaseImageError(message) from None

    def _image(self, layer: BuiltLayer) -> MemoryImage:
        try:
            return self.images[layer.reference]
        except KeyError:
            raise EngineError(f"the memory engine has no image {layer.reference}; build it first") from None

    def _check_volumes(self, mounts: Sequence[VolumeMount]) -> None:
        for mount in mounts:
            if mount.name not in (self.ephemeral if mount.ephemeral else self._volumes):
                raise missing_volume(mount)

    def _execute(self, work: Work, output: Output) -> list[CommandResult]:
        results = []
        left = work.timeout
        for index, command in enumerate(work.commands):
            result = self._commands(command, work)
            left = None if left is None else left - result.seconds
            timed_out = left is not None and left < 0
            errors = result.stderr.decode(errors="replace")
            if result.exit_code or timed_out or result.out_of_memory:
                raise CommandFailed(
                    index=index,
                    exit_code=result.exit_code or _KILLED,
                    output=result.stdout.decode(errors="replace") + errors,
                    timed_out=timed_out,
                    out_of_memory=result.out_of_memory,
                )
            for line in errors.splitlines():
                output(line)
            results.append(result)
        return results

    def _keep(self, image: MemoryImage, labels: LayerLabels) -> BuiltLayer:
        with self._changing:
            reference = f"memory:{next(self._numbers)}"
            size = sum(map(len, image.files.values()))
            layer = BuiltLayer(labels=labels, reference=reference, size=size, created=time.time())
            self.images[reference] = image
            self._layers[labels.namespace, labels.key] = layer
            return layer


def _given(credentials: Credentials | None) -> tuple[Credentials, ...]:
    return () if credentials is None else (credentials,)


def _changed(image: MemoryImage, work: Work) -> MemoryImage:
    change = work.config
    return MemoryImage(
        files={**image.files, **{entry.path: read_entry(entry) for entry in work.files}},
        commands=(*image.commands, *work.commands),
        environment={**image.environment, **dict(change.environment)},
        workdir=str(Path(image.workdir) / change.workdir) if change.workdir is not None else image.workdir,
        command=image.command if change.command is None else change.command,
        entrypoint=image.entrypoint if change.entrypoint is None else change.entrypoint,
    )
