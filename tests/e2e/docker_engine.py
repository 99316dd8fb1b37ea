"""A Docker engine, seen through its API: its events, the calls that it gets, its images and containers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final
from unittest import mock

import docker
import docker.errors
import pytest
import requests
from engines import Ledger, Made, Outage
from observing import wait_until
from relay import Relay

from pytest_imagebuild.engines.docker import DockerEngine, sweep
from pytest_imagebuild.engines.generations import Claims
from pytest_imagebuild.engines.uses import Uses

__all__ = ["DockerUnderTest", "Recorder"]

LAYERS = "imagebuild/layer"
STEP = "imagebuild.step"
LOCK = "imagebuild.lock"
NOWHERE = "unix:///nonexistent/docker.sock"


@final
class DockerUnderTest:
    """The engine at `DOCKER_HOST`."""

    name = "docker"
    reference_pattern = r"sha256:[0-9a-f]{64}"
    environment: Mapping[str, str]
    outage = Outage(environment={"DOCKER_HOST": NOWHERE}, sentence=f"Docker does not answer at {NOWHERE}")

    def __init__(self, cache_dir: Path) -> None:
        if "DOCKER_HOST" not in os.environ:
            pytest.fail('DOCKER_HOST is not set: start the test ground with `eval "$(tests/ground/up)"`', pytrace=False)
        self.cache_dir = cache_dir
        self.environment = {"IMAGEBUILD_ENGINE": "docker", "IMAGEBUILD_CACHE_DIR": str(cache_dir)}
        self._client = docker.from_env()
        self._api = self._client.api
        self._networks = self._network_names()

    @property
    def host_address(self) -> str:
        return str(self._client.networks.get("bridge").attrs["IPAM"]["Config"][0]["Gateway"])

    def events(self) -> DockerEvents:
        return DockerEvents(self.cache_dir)

    @contextlib.contextmanager
    def ledger(self, text: str) -> Iterator[Ledger]:
        with _Accounting(text) as accounting:
            yield accounting.ledger

    @contextlib.contextmanager
    def recorded(self) -> Iterator[Recorder]:
        with Recorder() as recorder, mock.patch.dict(os.environ, {"DOCKER_HOST": recorder.address}):
            yield recorder

    # Layers ----------------------------------------------------------------------------------------------------------

    def layers(self, text: str) -> dict[str, str]:
        return {image["RepoTags"][0]: image["Id"] for image in self._cached() if text in image["Labels"][STEP]}

    def thrown_away(self, text: str) -> list[str]:
        images = self._api.images(all=True, filters={"label": ["imagebuild.namespace"]})
        return [
            tag
            for image in images
            if image["Labels"]["imagebuild.namespace"] and text in image["Labels"][STEP]
            for tag in image.get("RepoTags") or [image["Id"]]
        ]

    def remove_layers(self, *texts: str) -> None:
        images = self._cached()
        doomed = _with_descendants(images, {id(image) for image in images if _holds_one(image["Labels"][STEP], texts)})
        for image in sorted(doomed, key=lambda image: -image["Created"]):
            self._remove(*image["RepoTags"])

    def forget_base(self, repository: str) -> None:
        for image in self._api.images(name=repository):
            self._remove(*(digest for digest in image["RepoDigests"] if digest.startswith(repository)))

    def key_of(self, reference: str) -> str:
        return str(self._client.images.get(reference).labels["imagebuild.key"])

    def output_of(self, reference: str, command: Sequence[str]) -> str:
        printed: bytes = self._client.containers.run(reference, list(command), remove=True)
        return printed.decode()

    def image_bytes(self, reference: str) -> Iterator[bytes]:
        yield from self._client.images.get(reference).save()

    def image_description(self, reference: str) -> str:
        image = self._client.images.get(reference)
        return json.dumps([image.attrs, image.history()])

    def _sweep(self) -> None:
        with mock.patch("pytest_imagebuild.engines.generations._REPLACED_SECONDS", 0):
            engine = DockerEngine(run=uuid.uuid4().hex, cache_dir=self.cache_dir)
            engine.sweep(Uses(self.cache_dir, engine.capabilities().identity).claimed())
            engine.close()

    def sweep_settled(self, text: str) -> None:
        untagged = sweep._untagged

        def mine(images: list[dict[str, Any]], claimed: Claims) -> list[dict[str, Any]]:
            own = {image["Id"] for image in self._on(images, text)}
            return [image for image in untagged(images, claimed) if image["Id"] in own]

        with (
            mock.patch.object(sweep, "_SETTLED_SECONDS", 0),
            mock.patch.object(sweep, "_untagged", mine),
            mock.patch("pytest_imagebuild.engines.owner._SETTLED_SECONDS", 0),
        ):
            # An image goes after those that stand on it.
            for _ in range(12):
                self._sweep()

    def unsound(self, text: str) -> list[str]:
        layers = self._on(self._cached(), text)
        keys = {image["Labels"]["imagebuild.key"] for image in layers}
        found = []
        for image in layers:
            labels, name = image["Labels"], image["RepoTags"][0]
            if image["RepoTags"] != [f"{LAYERS}:{labels['imagebuild.key']}"]:
                found.append(f"{name} is not the layer of its key")
            if labels["imagebuild.parent"] and labels["imagebuild.parent"] not in keys:
                found.append(f"{name} stands on {labels['imagebuild.parent']}, which is not there")
        return [*found, *(f"{name}: a layer of a run that has ended" for name in self._thrown_away_named(text))]

    def _thrown_away_named(self, text: str) -> list[str]:
        return [name for name in self.thrown_away(text) if not name.startswith(f"{LAYERS}:")]

    @staticmethod
    def _on(images: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
        """Return the images that hold a text, and those on them."""
        return _with_descendants(images, {id(image) for image in images if text in image["Labels"][STEP]})

    def _cached(self) -> list[dict[str, Any]]:
        images: list[dict[str, Any]] = self._api.images(filters={"label": [STEP], "reference": LAYERS})
        return images

    def _remove(self, *names: str) -> None:
        for name in names:
            with contextlib.suppress(docker.errors.APIError):
                self._api.remove_image(name, force=True)

    # Containers and what else may be left ----------------------------------------------------------------------------

    def containers(self) -> list[str]:
        # The daemon lists one that it is removing until it is gone, and removes one that has ended a moment later.
        deadline = time.monotonic() + 10
        while any(found["State"] != "running" for found in self._containers()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return [found["Id"] for found in self._containers()]

    def _containers(self) -> list[dict[str, Any]]:
        found = self._api.containers(all=True, filters={"label": [LOCK]})
        return [container for container in found if container["Labels"][LOCK].startswith(f"{self.cache_dir}/")]

    def has_file(self, container: str, path: str) -> bool:
        # Asked without a process in the container: a busy machine has enough of those.
        url = f"{self._api.base_url}/v{self._api.api_version}/containers/{container}/archive"
        try:
            return bool(self._api.head(url, params={"path": path}, timeout=20).status_code == 200)
        except requests.RequestException:
            return False

    def remains(self, text: str) -> list[str]:
        """Return containers, labelled images without a tag, which an interrupted commit could leave, and networks."""
        images = self._api.images(all=True, filters={"label": ["imagebuild.key"]})
        unnamed = [
            image["Id"]
            for image in images
            if not [tag for tag in image.get("RepoTags") or [] if tag != "<none>:<none>"]
            and text in image["Labels"][STEP]
        ]
        return [*self.containers(), *unnamed, *sorted(self._network_names() - self._networks)]

    def _network_names(self) -> set[str]:
        return {network["Name"] for network in self._api.networks()}


def _with_descendants(images: list[dict[str, Any]], chosen: set[int]) -> list[dict[str, Any]]:
    while True:
        keys = {image["Labels"]["imagebuild.key"] for image in images if id(image) in chosen}
        more = {id(image) for image in images if image["Labels"]["imagebuild.parent"] in keys} - chosen
        if not more:
            return [image for image in images if id(image) in chosen]
        chosen |= more


def _holds_one(text: str, parts: Iterable[str]) -> bool:
    return any(part in text for part in parts)


# Events ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Event:
    """What happened to a container: `create`, `start`, `commit`, `die`, `destroy`. `time` is in seconds."""

    action: str
    container: str
    time: float
    attributes: Mapping[str, str]

    @property
    def step(self) -> str:
        """The step whose layer a `commit` made."""
        return self.attributes.get("comment", "")


class _Listening:
    """A thread that reads the engine's own events. A subclass says in `_note` what it makes of one."""

    def __init__(self) -> None:
        self._client = docker.from_env()
        self._markers: set[str] = set()

    def _begin(self) -> None:
        self._stream = self._client.events(decode=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._reader.join(10)
        self._client.close()

    def _read(self) -> None:
        with contextlib.suppress(Exception):
            for event in self._stream:
                attributes = event["Actor"].get("Attributes") or {}
                if event["Type"] == "volume":
                    self._markers.add(event["Actor"]["ID"])
                else:
                    self._note(event, attributes)

    def _note(self, event: Mapping[str, Any], attributes: Mapping[str, str]) -> None:
        raise NotImplementedError

    def _catch_up(self) -> None:
        marker = f"marker-{uuid.uuid4().hex}"
        self._client.volumes.create(marker).remove()
        wait_until("the engine's events", lambda: marker in self._markers, timeout=60)


@final
class DockerEvents(_Listening):
    """The engine's own events of the containers of one cache folder."""

    def __init__(self, cache_dir: Path) -> None:
        super().__init__()
        self._owner = f"{cache_dir}/"
        self._all: list[_Event] = []

    def __enter__(self) -> DockerEvents:
        self._begin()
        return self

    def made(self) -> list[Made]:
        return [
            Made(event.step, event.attributes["imageRef"], event.attributes["imageID"])
            for event in self._seen("commit")
        ]

    def commits(self) -> list[str]:
        return [event.step for event in self._seen("commit")]

    def created(self) -> list[str]:
        return [event.container for event in self._seen("create")]

    def started(self) -> list[str]:
        return [event.container for event in self._seen("start")]

    def ended(self) -> dict[str, float]:
        return {event.container: event.time for event in self._seen("die")}

    def _seen(self, action: str) -> list[_Event]:
        self._catch_up()
        return [event for event in self._all if event.action == action]

    def _note(self, event: Mapping[str, Any], attributes: Mapping[str, str]) -> None:
        if event["Type"] == "container" and attributes.get(LOCK, "").startswith(self._owner):
            self._all.append(_Event(event["Action"], event["Actor"]["ID"], event["timeNano"] / 1e9, attributes))


@final
class _Accounting(_Listening):
    """Keeps account of the layers that hold a text, and of those on them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ledger = Ledger()
        self._text = text
        self._keys: dict[str, str] = {}

    def __enter__(self) -> _Accounting:
        self._begin()
        return self

    def __exit__(self, *error: object) -> None:
        self._catch_up()
        super().__exit__(*error)

    def _note(self, event: Mapping[str, Any], attributes: Mapping[str, str]) -> None:
        if event["Type"] != "image":
            return
        identity, name = event["Actor"]["ID"], attributes.get("name", "")
        if event["Action"] == "tag" and name.startswith(f"{LAYERS}:"):
            if self._text in attributes[STEP] or attributes["imagebuild.parent"] in self._keys.values():
                key = self._keys[identity] = name.partition(":")[2]
                self.ledger.kept(key, identity, attributes["imagebuild.generation"], attributes[STEP])
        elif event["Action"] in ("untag", "delete") and identity in self._keys:
            self.ledger.gone(self._keys[identity], identity)


# Calls -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Call:
    """A request to the engine: `path` is without the version of the API and the query."""

    method: str
    path: str


@final
class Recorder:
    """A proxy before the engine's socket that notes every request."""

    _REQUEST = re.compile(rb"(?:\A|\r\n)(GET|HEAD|POST|PUT|DELETE) (?:/v[\d.]+)?(/[^ ?]*)[^ ]* HTTP/1\.1\r\n")

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        # The path of a socket is limited to 108 bytes, so it does not lie in the folder of the test.
        self._folder = Path(tempfile.mkdtemp(prefix="recorder"))
        self._gate = socket.socket(socket.AF_UNIX)
        self._engine = os.environ["DOCKER_HOST"].removeprefix("unix://")
        self._relay = Relay(self._gate, self._connect, self._note)

    @property
    def address(self) -> str:
        """What DOCKER_HOST has to be."""
        return f"unix://{self._folder}/docker.sock"

    def __enter__(self) -> Recorder:
        self._gate.bind(f"{self._folder}/docker.sock")
        self._gate.listen(64)
        self._relay.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._relay.shut()
        shutil.rmtree(self._folder, ignore_errors=True)

    def changes(self) -> list[str]:
        return [f"{call.method} {call.path}" for call in self._before() if call.method not in {"GET", "HEAD"}]

    def look_ups(self) -> int:
        return sum(call.path == "/images/json" for call in self._before())

    def _before(self) -> list[_Call]:
        paths = [call.path for call in self._calls]
        before = self._calls[: paths.index("/containers/create")]
        assert before, "nothing was asked of the engine, so nothing was recorded"
        return before

    def _connect(self) -> socket.socket:
        engine = socket.socket(socket.AF_UNIX)
        engine.connect(self._engine)
        return engine

    def _note(self, data: bytes) -> None:
        self._calls += [_Call(method.decode(), path.decode()) for method, path in self._REQUEST.findall(data)]
