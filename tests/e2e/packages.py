"""A package index that a test serves to containers and to the host, with wheels and Debian packages that it makes."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import io
import json
import socket
import ssl
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import final

import pytest
from serving import Answer, Request, Served

__all__ = ["PackageIndex", "Visit", "debian_package", "index_of_the_host"]

ELSEWHERE = "https://pypi.org/simple"
SILENT_SECONDS = 3
JSON = "application/vnd.pypi.simple.v1+json"


@contextlib.contextmanager
def index_of_the_host(address: str) -> Iterator[PackageIndex]:
    """Serve an index at this machine's `address` that pip and uv of steps use, as the host's settings name it."""
    with PackageIndex(address) as index, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_INDEX_URL", index.url)
        patch.setenv("PIP_TRUSTED_HOST", index.host)
        patch.setenv("UV_DEFAULT_INDEX", index.url)
        # It is next door: who waits longer for it waits in vain.
        patch.setenv("PIP_DEFAULT_TIMEOUT", "20")
        patch.setenv("UV_HTTP_TIMEOUT", "20")
        yield index


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


def debian_package(name: str, version: str, *, content: str = "") -> tuple[str, bytes]:
    """Return the control stanza and the bytes of a package that has one file; same arguments, same bytes."""
    control = (
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: A Test <test@localhost>\n"
        f"Description: a package of a test\n"
    )
    members = {
        "debian-binary": b"2.0\n",
        "control.tar": _tar({"./control": control}),
        "data.tar": _tar({f"./usr/share/{name}": f"{version} {content}\n"}),
    }
    data = b"!<arch>\n"
    for member, body in members.items():
        head = f"{member:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(body):<10}`\n"
        data += head.encode() + body + b"\n" * (len(body) % 2)
    return control, data


def _tar(files: dict[str, str]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return data.getvalue()


def _hash(text: str) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class Visit:
    """A request that came: its path or, from a client that took this for a proxy, its address; and its login."""

    path: str
    login: str


class _Request(Request):
    def do_CONNECT(self) -> None:  # noqa: N802 - the base class looks for it
        index = self.server.served
        assert isinstance(index, PackageIndex)
        status, _, headers = index.answer(self)
        self.reply(status, headers)
        self.close_connection = True
        if status == 200:
            with socket.create_connection(index.behind(self.path), 20) as server:
                back = threading.Thread(target=_pump, args=(server, self.connection))
                back.start()
                _pump(self.connection, server)
                back.join(20)


@final
class PackageIndex(Served):
    """Serves the simple API (PEP 503 and 691) at an address of this machine; sends who asks for others to PyPI.

    Beside it, at `/debian/`, lies a flat repository of Debian packages. With `login` ("name:password") it refuses who
    does not say it. It is a proxy as well: what is asked for in the plain gets an answer of two words, a tunnel leads
    to where `names` ("host:port" by name) says, else to where it was asked to.

    `fault` is how it fails: a status, "cut" (in the middle of each answer) or "silent" (for `SILENT_SECONDS`).
    """

    request = _Request

    def __init__(self, host: str, *, login: str = "", tls: ssl.SSLContext | None = None) -> None:
        super().__init__(host, tls=tls)
        self.names: dict[str, str] = {}
        self.login = login
        self.fault = ""
        self.visits: list[Visit] = []
        self._files: dict[str, dict[str, bytes]] = {}
        self._debian: dict[str, tuple[str, bytes]] = {}
        self._scheme = "http" if tls is None else "https"

    @property
    def url(self) -> str:
        """The index as pip and uv take it, with the login in it."""
        return f"{self._scheme}://{self.login + '@' if self.login else ''}{self.address}/simple/"

    def publish(self, name: str, version: str, *, requires: Iterable[str] = (), content: str = "") -> None:
        """Offer a version of a package; one that is there already gets other bytes."""
        data = wheel(name, version, requires=requires, content=content)
        self._files.setdefault(name, {})[f"{name}-{version}-py3-none-any.whl"] = data

    def withdraw(self, name: str, version: str) -> None:
        """Offer a version no longer."""
        del self._files[name][f"{name}-{version}-py3-none-any.whl"]

    def publish_debian(self, name: str, version: str, *, content: str = "") -> None:
        """Offer a version of a Debian package, and no other version of it."""
        self._debian[name] = debian_package(name, version, content=content)

    def answer(self, request: Request) -> Answer:
        """Return a page of the index or a file, or what `fault` says."""
        found = self._found(request)
        if self.fault.isdecimal():
            return int(self.fault), b"", {}
        if self.fault == "cut":
            status, body, headers = found
            return status, body[: len(body) // 2], {**headers, "Content-Length": str(len(body)), "Connection": "close"}
        if self.fault == "silent":
            time.sleep(SILENT_SECONDS)
        return found

    def _found(self, request: Request) -> Answer:
        said = request.headers.get("Authorization") or request.headers.get("Proxy-Authorization") or ""
        visit = Visit(request.path, base64.b64decode(said.removeprefix("Basic ")).decode())
        self.visits.append(visit)
        if self.login and visit.login != self.login:
            return 401, b"", {"WWW-Authenticate": 'Basic realm="index"'}
        match [part for part in visit.path.split("/") if part not in ("", ".")]:
            case ["simple", project]:
                return self._page(project, wants_json=JSON in request.headers.get("Accept", ""))
            case ["files", name, file] if file in self._files.get(name, {}):
                return 200, self._files[name][file], {}
            case ["debian", "Packages"]:
                return 200, self._debian_index().encode(), {}
            case ["debian", file] if file.removesuffix(".deb") in self._debian:
                return 200, self._debian[file.removesuffix(".deb")][1], {}
            case ["simple" | "files" | "debian", *_]:
                return 404, b"", {}
        return 200, b"nothing here\n", {}

    def behind(self, address: str) -> tuple[str, int]:
        """Return the host and the port to which a tunnel to an address leads."""
        name, _, port = address.partition(":")
        host, _, port = self.names.get(name, address).partition(":")
        return host, int(port)

    def _debian_index(self) -> str:
        stanzas = (
            f"{control}Filename: ./{name}.deb\nSize: {len(data)}\nSHA256: {_sha256(data)}\n"
            for name, (control, data) in self._debian.items()
        )
        return "\n".join(stanzas)

    def _page(self, project: str, *, wants_json: bool) -> Answer:
        name = project.replace("-", "_")
        if name not in self._files:
            return 302, b"", {"Location": f"{ELSEWHERE}/{project}/"}
        links = {file: (f"/files/{name}/{file}", _sha256(data)) for file, data in self._files[name].items()}
        if wants_json:
            return 200, _json_page(project, links), {"Content-Type": JSON}
        return 200, _html_page(links), {"Content-Type": "text/html"}


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _json_page(name: str, links: dict[str, tuple[str, str]]) -> bytes:
    files = [{"filename": file, "url": url, "hashes": {"sha256": sha256}} for file, (url, sha256) in links.items()]
    return json.dumps({"meta": {"api-version": "1.0"}, "name": name, "files": files}).encode()


def _html_page(links: dict[str, tuple[str, str]]) -> bytes:
    lines = [f'<a href="{html.escape(url)}#sha256={sha256}">{file}</a>' for file, (url, sha256) in links.items()]
    return ("<!DOCTYPE html>\n" + "\n".join(lines)).encode()
