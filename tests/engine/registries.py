"""A registry on loopback that a test can make misbehave. It notes every request."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import re
import ssl
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(**files: bytes) -> bytes:
    """Return an uncompressed layer."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


@dataclass
class Call:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def authorization(self) -> str:
        return self.headers.get("Authorization", "")


class Answer:
    """Gives one answer in the place of the registry's."""

    def __init__(self, handler: _Handler) -> None:
        self._handler = handler

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self._handler.answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})

    def break_off(self, data: bytes, at: int) -> None:
        """Promise all of `data`, send a part, and hang up."""
        self.begin(len(data))
        self._handler.wfile.write(data[:at])
        self._handler.wfile.flush()

    def begin(self, size: int) -> None:
        """Promise so many bytes, of which none follow by themselves; the connection ends with this answer."""
        self._handler.send_response(200)
        self._handler.send_header("Content-Length", str(size))
        self._handler.end_headers()
        self._handler.close_connection = True


# Says whether it has answered.
Fault = Callable[[Call, Answer], bool]


@dataclass
class FakeRegistry:
    """Holds content; `faults` are asked first."""

    address: str
    content: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    knows_ranges: bool = True
    gives_digests: bool = True

    def blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        self.content[f"blobs/{digest_of(data)}"] = ("application/octet-stream", data)
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def put(self, tag: str, document: dict[str, Any]) -> dict[str, Any]:
        data = json.dumps(document).encode()
        for name in (tag, digest_of(data)):
            self.content[f"manifests/{name}"] = (document["mediaType"], data)
        return {"mediaType": document["mediaType"], "digest": digest_of(data), "size": len(data)}

    def image(self, tag: str, *layers: bytes, architecture: str = "amd64", **config: Any) -> dict[str, Any]:
        """Put an image there and return its descriptor."""
        described = {
            "os": "linux",
            "architecture": architecture,
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [digest_of(data) for data in layers]},
        }
        packed = [gzip.compress(data, mtime=0) for data in layers]
        return self.put(
            tag,
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": self.blob(json.dumps(described).encode(), CONFIG),
                "layers": [self.blob(data, LAYER) for data in packed],
            },
        )

    def reference(self, tag: str = "latest") -> str:
        return f"{self.address}/some/image:{tag}"

    def asked(self, pattern: str) -> list[Call]:
        return [call for call in self.calls if re.search(pattern, f"{call.method} {call.path}")]

    def often(self, times: int, pattern: str, fault: Callable[[Answer], object]) -> None:
        """Answer the first `times` requests that match with `fault`."""
        left = [times]

        def once(call: Call, answer: Answer) -> bool:
            if not left[0] or not re.search(pattern, f"{call.method} {call.path}"):
                return False
            left[0] -= 1
            fault(answer)
            return True

        self.faults.append(once)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: FakeRegistry

    def do_GET(self) -> None:
        call = Call(method=self.command, path=self.path, headers=dict(self.headers))
        self.registry.calls.append(call)
        if any(fault(call, Answer(self)) for fault in list(self.registry.faults)):
            return
        media_type, data = self.registry.content.get(self.path.removeprefix("/v2/some/image/"), ("", None))
        if data is None:
            self.answer(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}', {})
            return
        headers = {"Content-Type": media_type}
        if self.registry.gives_digests:
            headers["Docker-Content-Digest"] = digest_of(data)
        if (wanted := re.fullmatch(r"bytes=(\d+)-", call.headers.get("Range", ""))) and self.registry.knows_ranges:
            headers["Content-Range"] = f"bytes {wanted[1]}-{len(data) - 1}/{len(data)}"
            self.answer(206, data[int(wanted[1]) :], headers)
        else:
            self.answer(200, data, headers)

    do_HEAD = do_GET  # noqa: N815 - the name is given

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(OSError):
                self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving(host: str = "127.0.0.1", certificate: Path | None = None) -> Iterator[FakeRegistry]:
    class Handler(_Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        # The handshake belongs to the thread of the connection.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    Handler.registry = registry = FakeRegistry(address=f"{host}:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()


def closed_port() -> int:
    """Return a port on which nobody listens."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
