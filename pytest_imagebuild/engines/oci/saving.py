"""Writes an archive of one image that is an OCI layout (image-layout.md), and what every `docker load` reads as well.

Docker before 25 knows `manifest.json` only, later ones and other tools take `index.json`; both name the same blobs. The
same image gives the same bytes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from io import FileIO
from pathlib import Path
from typing import Any

from pytest_imagebuild.engines.oci.inflate import GZIP, ZSTD
from pytest_imagebuild.engines.oci.tarwriter import END, file_header, header, padding, plain_file
from pytest_imagebuild.engines.protocol import Output
from pytest_imagebuild.engines.references import Reference, familiar
from pytest_imagebuild.errors import EngineError

__all__ = ["LayerWriter", "bare_config", "cannot_write", "clean_config", "files_layer", "save", "time_text"]

LayerWriter = Callable[[int], None]
"""Writes one layer to an open file, from where it stands."""

_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_OURS = "imagebuild."
_NEW = os.O_RDWR | os.O_CLOEXEC
# As any new file of the user, not for him alone.
_MODE = 0o666
_NO_UNNAMED_FILES = (errno.EOPNOTSUPP, errno.EISDIR)
# Of the configuration of a container, what is the image's: config.md, and what Docker's images have beyond it.
_KEPT = (
    "ArgsEscaped",
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "StopTimeout",
    "User",
    "Volumes",
    "WorkingDir",
)
_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Blob:
    """What was written: its digest and size, and its first bytes."""

    digest: str
    size: int
    start: bytes = b""

    @property
    def path(self) -> str:
        return f"blobs/{self.digest.replace(':', '/')}"

    def descriptor(self, media_type: str, **more: object) -> dict[str, object]:
        return {"mediaType": media_type, "digest": self.digest, "size": self.size, **more}


def save(target: Path, name: str, config: Mapping[str, Any], layers: Sequence[LayerWriter], output: Output) -> None:
    """Write the archive of an image; `target` is there when it is whole, or as it was before.

    `config` is the image's configuration (config.md). Where it names no layers, their digests are filled in; where it
    does, a plain layer must have the digest that it names. `layers` come bottom first. Raises EngineError.
    """
    try:
        _save(target, name, config, layers, output)
    except OSError as error:
        raise cannot_write(target, error) from error


def cannot_write(target: Path, error: OSError) -> EngineError:
    """Return the error of a place that takes no archive."""
    return EngineError(
        f"the image archive {target} cannot be written: {error.strerror or error}. Name another place for it."
    )


def _save(target: Path, name: str, config: Mapping[str, Any], layers: Sequence[LayerWriter], output: Output) -> None:
    with _replacing(target) as file:
        archive = _Archive(file)
        written = []
        for number, layer in enumerate(layers, 1):
            written.append(archive.layer(layer))
            output(f"{name}: layer {number} of {len(layers)}: {written[-1].size / 1e6:.1f} MB")
        named = config.get("rootfs", {}).get("diff_ids")
        digests = [blob.digest for blob in written] if named is None else named
        _check(written, digests)
        rootfs = {"type": "layers", "diff_ids": digests}
        about = archive.blob(_text({**config, "rootfs": rootfs}))
        manifest = archive.blob(_text(_manifest(about, written)))
        platform = {key: config[key] for key in ("architecture", "os", "variant") if key in config}
        saved = [{"Config": about.path, "RepoTags": [name], "Layers": [blob.path for blob in written]}]
        archive.file("index.json", _text(_index(manifest, name, platform)))
        archive.file("manifest.json", _text(saved))
        archive.file("oci-layout", _text({"imageLayoutVersion": "1.0.0"}))
        file.write(END)


def files_layer(files: Mapping[str, bytes]) -> LayerWriter:
    """Return a layer of plain files, by their absolute paths."""

    def write(target: int) -> None:
        with os.fdopen(os.dup(target), "wb") as file:
            for path, data in sorted(files.items()):
                file.write(header(plain_file(path.lstrip("/").encode(), len(data))) + data + padding(len(data)))
            file.write(END)

    return write


def bare_config(platform: str, created: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of an image for `platform` (`linux/amd64`), without its layers.

    `created` is a time as RFC 3339 has it, `config` how containers start.
    """
    system, _, architecture = platform.partition("/")
    return {"architecture": architecture, "os": system, "created": created, "config": _cleaned(config)}


def time_text(seconds: float) -> str:
    """Return a time in seconds since the epoch as a configuration has it: RFC 3339, in whole seconds."""
    return datetime.fromtimestamp(int(seconds), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def clean_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of an image without what an engine noted in it of the container that it was made in.

    Our own labels are not in it: an image that somebody loads must not look like a layer of ours.
    """
    kept = ("architecture", "author", "created", "history", "os", "os.version", "rootfs", "variant")
    result = {key: config[key] for key in kept if config.get(key)}
    return {**result, "config": _cleaned(config.get("config") or {})}


def _cleaned(config: Mapping[str, Any]) -> dict[str, Any]:
    result = {key: config[key] for key in _KEPT if config.get(key)}
    if "Labels" in result:
        result["Labels"] = {key: value for key, value in result["Labels"].items() if not key.startswith(_OURS)}
        if not result["Labels"]:
            del result["Labels"]
    return result


def _manifest(config: _Blob, layers: Iterable[_Blob]) -> dict[str, object]:
    return {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": config.descriptor(_CONFIG),
        "layers": [blob.descriptor(_media_type(blob)) for blob in layers],
    }


def _index(manifest: _Blob, name: str, platform: Mapping[str, str]) -> dict[str, object]:
    # As containerd and Docker name images: the first in full, the second is the tag.
    reference = Reference.parse(name)
    annotations = {
        "io.containerd.image.name": _in_full(reference),
        "org.opencontainers.image.ref.name": reference.tag,
    }
    entry = manifest.descriptor(_MANIFEST, platform=platform, annotations=annotations)
    return {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]}


def _in_full(reference: Reference) -> str:
    repository = familiar(reference.repository)
    if reference.registry == "Docker Hub":
        repository = f"docker.io/{repository if '/' in repository else f'library/{repository}'}"
    return f"{repository}:{reference.tag}"


def _check(written: Sequence[_Blob], digests: Sequence[str]) -> None:
    plain = (blob.digest if _media_type(blob) == _LAYER else digest for blob, digest in zip(written, digests))  # noqa: B905
    if len(written) != len(digests) or list(plain) != list(digests):
        raise EngineError("the engine gave other layers than the configuration of its image names; export it again")


def _media_type(blob: _Blob) -> str:
    if blob.start.startswith(GZIP):
        return f"{_LAYER}+gzip"
    return f"{_LAYER}+zstd" if blob.start == ZSTD else _LAYER


def _text(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


class _Archive:
    """A tar on a file that can be read again. Each blob is in it once."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._blobs: dict[str, _Blob] = {}

    def layer(self, write: LayerWriter) -> _Blob:
        """Write a blob whose digest is known when it is there: its header is filled in afterwards."""
        begin = self._file.tell()
        self._file.write(file_header("", 0))
        content = self._file.tell()
        write(self._file.fileno())
        blob = self._read_back(content)
        if blob.digest in self._blobs:
            self._file.seek(begin)
            self._file.truncate()
            return blob
        self._blobs[blob.digest] = blob
        self._file.write(padding(blob.size))
        end = self._file.tell()
        self._file.seek(begin)
        self._file.write(file_header(blob.path, blob.size))
        self._file.seek(end)
        return blob

    def blob(self, data: bytes) -> _Blob:
        """Write a small blob."""
        blob = _Blob(f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
        if blob.digest not in self._blobs:
            self._blobs[blob.digest] = blob
            self.file(blob.path, data)
        return blob

    def file(self, name: str, data: bytes) -> None:
        """Write a small file."""
        self._file.write(file_header(name, len(data)) + data + padding(len(data)))

    def _read_back(self, begin: int) -> _Blob:
        found = hashlib.sha256()
        self._file.seek(begin)
        start, size = b"", 0
        while part := self._file.read(_CHUNK):
            start = start or part[:4]
            size += len(part)
            found.update(part)
        return _Blob(f"sha256:{found.hexdigest()}", size, start)


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[FileIO]:
    """Open a file that takes the place of `target` at the end of the block, unless that fails."""
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    opened = _unnamed(target.parent)
    named = opened is None
    if opened is None:
        opened = os.open(partial, _NEW | os.O_CREAT | os.O_EXCL, _MODE)
    try:
        # Without a buffer, as others write to it too.
        with os.fdopen(opened, "w+b", buffering=0) as file:
            yield file
            if not named:
                # With a descriptor it is linkat(2), which alone goes where the link of the file leads.
                os.link(f"/proc/self/fd/{file.fileno()}", partial, src_dir_fd=file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _unnamed(folder: Path) -> int | None:
    """Open a file of which nothing is left where this process is killed; None where the file system has none."""
    try:
        return os.open(folder, _NEW | os.O_TMPFILE, _MODE)
    except AttributeError:  # macOS
        return None
    except OSError as error:
        if error.errno not in _NO_UNNAMED_FILES:
            raise
        return None
