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

__all__ = ["OwnBase", "own_base"]

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
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
        manifest = json.loads(self._call("GET", f"/v2/{SOURCE}/manifests/{TAG}", headers={"Accept": MANIFEST}))
        config = json.loads(self._call("GET", f"/v2/{SOURCE}/blobs/{manifest['config']['digest']}"))
        config["config"]["Labels"] = {"label": label}
        for layer in manifest["layers"]:
            self._call("POST", f"/v2/{self._name}/blobs/uploads/?mount={layer['digest']}&from={SOURCE}")
        data = json.dumps(config, sort_keys=True).encode()
        manifest["config"] = {**manifest["config"], "digest": _digest(data), "size": len(data)}
        self._put_blob(data)
        body = json.dumps(manifest, sort_keys=True).encode()
        self._call("PUT", f"/v2/{self._name}/manifests/1", body=body, headers={"Content-Type": MANIFEST})
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
        connection = http.client.HTTPConnection(self._registry, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, **more)
            response = connection.getresponse()
            body = response.read()
            assert response.status < 300, f"the registry answers {method} {path} with {response.status}: {body!r}"
            return body, response.headers

    def _connect(self) -> socket.socket:
        host, _, port = self._registry.partition(":")
        return socket.create_connection((host, int(port)), 10)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
