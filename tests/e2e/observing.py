"""What happens on the engine, seen behind the plugin's back: its events, the calls that it gets, its images."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, final

import docker
import docker.errors
from relay import Relay

__all__ = ["Call", "Event", "Events", "Recorder", "containers_of", "holds", "layers_of", "remove_layers", "wait_until"]

LAYERS = "imagebuild/layer"
STEP = "imagebuild.step"
LOCK = "imagebuild.lock"


def wait_until(what: str, holds: Any, *, timeout: float = 60) -> Any:
    """Return the first true value of `holds()`; fail with `what` was waited for when none comes in time."""
    end = time.monotonic() + timeout
    while not (value := holds()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout} s in vain for: {what}")
        time.sleep(0.05)
    return value


# Events ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a container: `create`, `start`, `commit`, `die`, `destroy`. `time` is in seconds."""

    action: str
    container: str
    time: float
    attributes: Mapping[str, str]

    @property
    def step(self) -> str:
        """The step whose layer a `commit` made."""
        return self.attributes.get("comment", "")


@final
class Events:
    """The events of the containers that belong to the runs of one cache folder, from entry to exit."""

    def __init__(self, cache_dir: Path) -> None:
        self._owner = str(cache_dir)
        self._client = docker.from_env()
        self._all: list[Event] = []
        self._markers: set[str] = set()

    def __enter__(self) -> Events:
        self._stream = self._client.events(decode=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._reader.join(10)
        self._client.close()

    def seen(self, action: str) -> list[Event]:
        """Return the events of an action that the engine told of until now, in order."""
        self._catch_up()
        return [event for event in self._all if event.action == action]

    def commits(self) -> list[str]:
        """Return the steps of the layers that were made, in order."""
        return [event.step for event in self.seen("commit")]

    def spans(self) -> dict[str, tuple[float, float]]:
        """Return when the commands of each step began and ended."""
        begun = {event.container: event.time for event in self.seen("start")}
        ended = {event.container: event.time for event in self.seen("die")}
        return {
            event.step: (begun[event.container], ended[event.container])
            for event in self.seen("commit")
            if event.container in begun
        }

    def _read(self) -> None:
        with contextlib.suppress(Exception):
            for event in self._stream:
                self._note(event)

    def _note(self, event: Mapping[str, Any]) -> None:
        attributes = event["Actor"].get("Attributes") or {}
        if event["Type"] == "volume":
            self._markers.add(event["Actor"]["ID"])
        elif event["Type"] == "container" and attributes.get(LOCK, "").startswith(self._owner):
            self._all.append(Event(event["Action"], event["Actor"]["ID"], event["timeNano"] / 1e9, attributes))

    def _catch_up(self) -> None:
        marker = f"marker-{uuid.uuid4().hex}"
        self._client.volumes.create(marker).remove()
        wait_until("the engine's events", lambda: marker in self._markers, timeout=20)


# Calls -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """A request to the engine: `path` is without the version of the API and the query."""

    method: str
    path: str

    @property
    def changes(self) -> bool:
        """Whether it may change the state of the engine."""
        return self.method not in {"GET", "HEAD"}


@final
class Recorder:
    """A proxy before the engine's socket that notes every request."""

    _REQUEST = re.compile(rb"(?:\A|\r\n)(GET|HEAD|POST|PUT|DELETE) (?:/v[\d.]+)?(/[^ ?]*)[^ ]* HTTP/1\.1\r\n")

    def __init__(self) -> None:
        self.calls: list[Call] = []
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._relay.shut()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _connect(self) -> socket.socket:
        engine = socket.socket(socket.AF_UNIX)
        engine.connect(self._engine)
        return engine

    def _note(self, data: bytes) -> None:
        self.calls += [Call(method.decode(), path.decode()) for method, path in self._REQUEST.findall(data)]


# Images and containers -----------------------------------------------------------------------------------------------


def layers_of(client: docker.DockerClient, text: str) -> dict[str, str]:
    """Return the ids of the layers whose step holds `text`, by their tag. One without a tag has its id for a key."""
    images = client.api.images(all=True, filters={"label": [STEP]})
    return {
        (image.get("RepoTags") or [image["Id"]])[0]: image["Id"]
        for image in images
        if text in image["Labels"][STEP] and f"{LAYERS}:" in "".join(image.get("RepoTags") or [f"{LAYERS}:"])
    }


def remove_layers(client: docker.DockerClient, *texts: str) -> None:
    """Remove the layers whose step holds one of `texts`, and those that stand on them."""
    images = client.api.images(filters={"label": [STEP], "reference": LAYERS})
    doomed = _with_descendants(images, {id(image) for image in images if _holds_one(image["Labels"][STEP], texts)})
    for image in sorted(doomed, key=lambda image: -image["Created"]):
        for tag in image["RepoTags"]:
            with contextlib.suppress(docker.errors.APIError):
                client.api.remove_image(tag, force=True)


def _with_descendants(images: list[dict[str, Any]], chosen: set[int]) -> list[dict[str, Any]]:
    while True:
        keys = {image["Labels"]["imagebuild.key"] for image in images if id(image) in chosen}
        more = {id(image) for image in images if image["Labels"]["imagebuild.parent"] in keys} - chosen
        if not more:
            return [image for image in images if id(image) in chosen]
        chosen |= more


def _holds_one(text: str, parts: Iterable[str]) -> bool:
    return any(part in text for part in parts)


def containers_of(client: docker.DockerClient, cache_dir: Path) -> list[str]:
    """Return the ids of the containers, running or not, that belong to the runs of a cache folder."""
    found = client.api.containers(all=True, filters={"label": [LOCK]})
    return [container["Id"] for container in found if container["Labels"][LOCK].startswith(str(cache_dir))]


def holds(chunks: Iterable[bytes], *markers: str) -> list[str]:
    """Return which of `markers` are found in a stream of bytes."""
    wanted = {marker: marker.encode() for marker in markers}
    longest = max(len(value) for value in wanted.values())
    found: dict[str, None] = {}
    for window in _windows(chunks, longest):
        found.update({marker: None for marker, value in wanted.items() if value in window})
    return list(found)


def _windows(chunks: Iterable[bytes], overlap: int) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        window = rest + chunk
        yield window
        rest = window[-overlap:]
