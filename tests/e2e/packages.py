"""A package index that a test serves to containers and to the host, with wheels that the test makes."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import ssl
import threading
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

import docker

__all__ = ["PackageIndex", "Visit", "gateway"]

ELSEWHERE = "https://pypi.org/simple"
JSON = "application/vnd.pypi.simple.v1+json"


def gateway(client: docker.DockerClient) -> str:
    """Return this machine's address on the engine's bridge, which containers reach."""
    return str(client.networks.get("bridge").attrs["IPAM"]["Config"][0]["Gateway"])


def wheel(name: str, version: str, *, requires: Iterable[str] = (), content: str = "") -> bytes:
    """Return a wheel whose module `name` has `version` and `content`; the same arguments give the same bytes."""
    folder = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {item}\n" for item in requires)
    files = {
        f"{name}.py": f"version = {version!r}\ncontent = {content!r}\n",
        f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{folder}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},{_hash(text)},{len(text)}\n" for path, text in files.items())
    files[f"{folder}/RECORD"] = f"{record}{folder}/RECORD,,\n"
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), text)
    return data.getvalue()


def _hash(text: str) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class Visit:
    """A request that came: its path or, from a client that took this for a proxy, its address; and its login."""

    path: str
    login: str


class PackageIndex:
    """Serves the simple API (PEP 503 and 691) at an address of this machine; sends who asks for others to PyPI.

    With `login` ("name:password") it refuses who does not say it.
    """

    def __init__(self, host: str, *, login: str = "", tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self.login = login
        self.visits: list[Visit] = []
        self._files: dict[str, dict[str, bytes]] = {}
        self._server = ThreadingHTTPServer((host, 0), self._handler())
        self._server.daemon_threads = True
        self._scheme = "http" if tls is None else "https"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.host}:{self._server.server_port}"

    @property
    def url(self) -> str:
        """The index as pip and uv take it, with the login in it."""
        return f"{self._scheme}://{self.login + '@' if self.login else ''}{self.address}/simple/"

    def __enter__(self) -> PackageIndex:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def publish(self, name: str, version: str, *, requires: Iterable[str] = (), content: str = "") -> None:
        """Offer a version of a package; one that is there already gets other bytes."""
        data = wheel(name, version, requires=requires, content=content)
        self._files.setdefault(name, {})[f"{name}-{version}-py3-none-any.whl"] = data

    def withdraw(self, name: str, version: str) -> None:
        """Offer a version no longer."""
        del self._files[name][f"{name}-{version}-py3-none-any.whl"]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        index = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                said = self.headers.get("Authorization") or self.headers.get("Proxy-Authorization") or ""
                login = base64.b64decode(said.removeprefix("Basic ")).decode()
                index.visits.append(Visit(self.path, login))
                if index.login and login != index.login:
                    return self.answer(401, b"", **{"WWW-Authenticate": 'Basic realm="index"'})
                parts = [part for part in self.path.split("/") if part]
                if len(parts) == 2 and parts[0] == "simple":
                    return self.list(parts[1])
                if len(parts) == 3 and parts[0] == "files" and parts[2] in index._files.get(parts[1], {}):
                    return self.answer(200, index._files[parts[1]][parts[2]])
                return self.answer(404 if parts[:1] in (["simple"], ["files"]) else 200, b"nothing here\n")

            def do_HEAD(self) -> None:
                self.do_GET()

            def list(self, name: str) -> None:
                files = index._files.get(name.replace("-", "_"))
                if files is None:
                    return self.answer(302, b"", Location=f"{ELSEWHERE}/{name}/")
                links = {
                    file: (f"/files/{name.replace('-', '_')}/{file}", hashlib.sha256(data).hexdigest())
                    for file, data in files.items()
                }
                if JSON in self.headers.get("Accept", ""):
                    return self.answer(200, _json_page(name, links), **{"Content-Type": JSON})
                return self.answer(200, _html_page(links), **{"Content-Type": "text/html"})

            def answer(self, status: int, body: bytes, **headers: str) -> None:
                self.send_response(status)
                for key, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name in the base class
                pass

        return Handler


def _json_page(name: str, links: dict[str, tuple[str, str]]) -> bytes:
    files = [{"filename": file, "url": url, "hashes": {"sha256": sha256}} for file, (url, sha256) in links.items()]
    return json.dumps({"meta": {"api-version": "1.0"}, "name": name, "files": files}).encode()


def _html_page(links: dict[str, tuple[str, str]]) -> bytes:
    lines = [f'<a href="{html.escape(url)}#sha256={sha256}">{file}</a>' for file, (url, sha256) in links.items()]
    return ("<!DOCTYPE html>\n" + "\n".join(lines)).encode()
