"""Put the base images of the tests into the registry of the test ground.

`fill_registry.py REGISTRY FOLDER REFERENCE...` bootstraps each reference that the registry lacks, at most two at a
time, keeps the tar file in FOLDER, and pushes it as an image of one layer. The same tar file gives the same digest.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import platform
import shutil
import sys
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pytest_imagebuild.engines.bootstrap import bootstrap
from pytest_imagebuild.errors import ImageBuildError

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
PATH = "PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
# The index of a suite that still moves is valid for days only, and mirrors may serve an older one.
APT_OPTIONS = {"python:3.14": ('Acquire::Check-Valid-Until "false";',)}


class Registry:
    """The few calls of the distribution API that a push needs."""

    def __init__(self, address: str) -> None:
        self.address = address

    def call(
        self, method: str, url: str, *, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            connection.request(method, url, body=body, headers=headers or {})
            response = connection.getresponse()
            text = response.read()
            if response.status >= 400 and response.status != 404:
                raise SystemExit(f"ground: the registry answers {method} {url} with {response.status}: {text!r}")
            return response.status, response.headers
        finally:
            connection.close()

    def has(self, reference: str) -> bool:
        name, tag = split(reference)
        return self.call("HEAD", f"/v2/{name}/manifests/{tag}", headers={"Accept": MANIFEST})[0] == 200

    def put_blob(self, name: str, digest: str, body: Any, size: int) -> None:
        if self.call("HEAD", f"/v2/{name}/blobs/{digest}")[0] == 200:
            return
        _, headers = self.call("POST", f"/v2/{name}/blobs/uploads/")
        place = urllib.parse.urlsplit(headers["Location"])
        query = f"{place.query}&digest={digest}" if place.query else f"digest={digest}"
        self.call(
            "PUT",
            f"{place.path}?{query}",
            body=body,
            headers={"Content-Type": "application/octet-stream", "Content-Length": str(size)},
        )

    def put_manifest(self, name: str, tag: str, manifest: bytes) -> None:
        self.call("PUT", f"/v2/{name}/manifests/{tag}", body=manifest, headers={"Content-Type": MANIFEST})


def split(reference: str) -> tuple[str, str]:
    name, _, tag = reference.partition(":")
    return f"library/{name}", tag


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def push(registry: Registry, reference: str, tar: Path) -> str:
    name, tag = split(reference)
    with TemporaryFile(dir=tar.parent) as layer, tar.open("rb") as plain:
        diff_id = hashlib.file_digest(plain, "sha256").hexdigest()
        plain.seek(0)
        with gzip.GzipFile(filename="", fileobj=layer, mode="wb", compresslevel=1, mtime=0) as packed:
            shutil.copyfileobj(plain, packed, 1 << 20)
        size = layer.tell()
        layer.seek(0)
        blob = f"sha256:{hashlib.file_digest(layer, 'sha256').hexdigest()}"
        layer.seek(0)
        registry.put_blob(name, blob, layer, size)
    command = ["python3"] if reference.startswith("python:") else ["bash"]
    config = canonical(
        {
            "architecture": ARCHITECTURE,
            "config": {"Cmd": command, "Env": [PATH]},
            "created": "2020-01-01T00:00:00Z",
            "history": [{"created": "2020-01-01T00:00:00Z", "created_by": f"bootstrapped {reference}"}],
            "os": "linux",
            "rootfs": {"diff_ids": [f"sha256:{diff_id}"], "type": "layers"},
        }
    )
    registry.put_blob(name, digest_of(config), config, len(config))
    manifest = canonical(
        {
            "config": {"digest": digest_of(config), "mediaType": CONFIG, "size": len(config)},
            "layers": [{"digest": blob, "mediaType": LAYER, "size": size}],
            "mediaType": MANIFEST,
            "schemaVersion": 2,
        }
    )
    registry.put_manifest(name, tag, manifest)
    return digest_of(manifest)


def provide(registry: Registry, folder: Path, reference: str) -> str | None:
    """Return why `reference` cannot be had, or None when the registry has it."""
    if registry.has(reference):
        return None
    tar = folder / f"{reference.replace(':', '-')}.tar"
    if not tar.exists():
        print(f"ground: bootstrapping {reference}", file=sys.stderr, flush=True)
        with tar.with_suffix(".log").open("w") as log:
            options = next((lines for start, lines in APT_OPTIONS.items() if reference.startswith(start)), ())
            try:
                bootstrap(
                    reference,
                    architecture=ARCHITECTURE,
                    target=tar,
                    output=lambda line: print(line, file=log, flush=True),
                    apt_options=options,
                )
            except ImageBuildError as error:
                return str(error)
    digest = push(registry, reference, tar)
    print(f"ground: the registry has {reference} {digest}", file=sys.stderr, flush=True)
    return None


def main(address: str, folder: str, *references: str) -> int:
    Path(folder).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max_workers=2) as pool:
        problems = [*filter(None, pool.map(partial(provide, Registry(address), Path(folder)), references))]
    for problem in problems:
        print(f"ground: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
