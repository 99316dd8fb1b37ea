"""Base images of a test's own: a repository in the test ground's registry, reached through a gate that can be shut."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import socket
import urllib.parse
from collections.abc import Iterator
from types import TracebackType
from typing import Any, final

from engines import EngineUnderTest
from relay import Relay

__all__ = ["OwnBase", "Repository", "own_base"]

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
SOURCE = "library/python"
TAG = "3.13-slim-trixie"


@contextlib.contextmanager
def own_base(name: str, engine: EngineUnderTest) -> Iterator[OwnBase]:
    """Give a base of its own to a test whose steps hold `name`; remove what was built on it."""
    with OwnBase(name) as base:
        yield base
    engine.remove_layers(name)
    engine.forget_base(base.repository)


@final
class OwnBase:
    """A copy of the usual base image, under a reference that no other test uses.

    Rebuilding it by force, moving its tag or shutting its registry is nobody else's business. `reference` is what a
    chain names.
    """

    def __init__(self, name: str) -> None:
        self._name = f"e2e/{name}"
        self._registry = os.environ["IMAGEBUILD_TEST_REGISTRY"]
        gate = socket.create_server(("127.0.0.1", 0))
        self.repository = f"127.0.0.1:{gate.getsockname()[1]}/{self._name}"
        self.reference = f"{self.repository}:1"
        self._relay = Relay(gate, self._connect)

    def __enter__(self) -> OwnBase:
        self._relay.start()
        self.publish()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shut()

    @property
    def visits(self) -> int:
        """The connections that the registry got."""
        return self._relay.visits

    def shut(self) -> None:
        """Let nobody through to the registry any more."""
        self._relay.shut()

    def publish(self, *, label: str = "") -> str:
        """Move the tag to an image that has `label`; return its digest."""
        repository = Repository(self._name)
        config, layers = repository.copied()
        config["config"]["Labels"] = {"label": label}
        return repository.push("1", config, layers)

    def _connect(self) -> socket.socket:
        host, _, port = self._registry.partition(":")
        return socket.create_connection((host, int(port)), 10)


@final
class Repository:
    """A repository of the test ground's registry that a test fills with images on top of the usual one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._registry = os.environ["IMAGEBUILD_TEST_REGISTRY"]

    def copied(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the configuration of the usual base image, and its layers, which this repository has now too."""
        manifest = json.loads(self._call("GET", f"/v2/{SOURCE}/manifests/{TAG}", headers={"Accept": MANIFEST}))
        config = json.loads(self._call("GET", f"/v2/{SOURCE}/blobs/{manifest['config']['digest']}"))
        for layer in manifest["layers"]:
            self._call("POST", f"/v2/{self._name}/blobs/uploads/?mount={layer['digest']}&from={SOURCE}")
        return config, manifest["layers"]

    def content(self, layer: dict[str, Any]) -> bytes:
        """Return a layer that this repository has, a tar file packed by gzip."""
        return self._call("GET", f"/v2/{self._name}/blobs/{layer['digest']}")

    def put_layer(self, packed: bytes) -> dict[str, Any]:
        """Put a layer, a tar file packed by gzip, and return what a manifest says of it."""
        self._put_blob(packed)
        return {"mediaType": LAYER, "digest": _digest(packed), "size": len(packed)}

    def push(self, tag: str, config: dict[str, Any], layers: list[dict[str, Any]]) -> str:
        """Move a tag to the image of this configuration and these layers; return its digest."""
        data = json.dumps(config, sort_keys=True).encode()
        self._put_blob(data)
        described = {"mediaType": CONFIG, "digest": _digest(data), "size": len(data)}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers}
        body = json.dumps(manifest, sort_keys=True).encode()
        self._call("PUT", f"/v2/{self._name}/manifests/{tag}", body=body, headers={"Content-Type": MANIFEST})
        return _digest(body)

    def _put_blob(self, data: bytes) -> None:
        location = self._location("POST", f"/v2/{self._name}/blobs/uploads/")
        mark = "&" if location.query else ""
        self._call("PUT", f"{location.path}?{location.query}{mark}digest={_digest(data)}", body=data)

    def _location(self, method: str, path: str) -> urllib.parse.SplitResult:
        return urllib.parse.urlsplit(self._request(method, path)[1]["Location"])

    def _call(self, method: str, path: str, **more: Any) -> bytes:
        return self._request(method, path, **more)[0]

    def _request(self, method: str, path: str, **more: Any) -> tuple[bytes, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection(self._registry, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, **more)
            response = connection.getresponse()
            body = response.read()
            assert response.status < 300, f"the registry answers {method} {path} with {response.status}: {body!r}"
            return body, response.headers


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
