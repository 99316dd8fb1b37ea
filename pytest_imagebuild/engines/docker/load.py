"""Load the images of an archive into the engine.

Docker reads what `docker save` wrote. A tar of an OCI layout (OCI image spec, image-layout.md) has the same files but
for the list of images, which is added here: engines before version 25 know no other form.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pytest_imagebuild.engines.docker.connection import engine_errors
from pytest_imagebuild.engines.protocol import Output
from pytest_imagebuild.engines.references import Reference
from pytest_imagebuild.errors import BaseImageError

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["load_archive"]

_LIST = "manifest.json"
_INDEX = "index.json"
_ADVICE = "Write it again with `docker save`, or as a tar of an OCI layout."
_DOCUMENT_SIZE = 8 * 1024 * 1024
_LOADED = re.compile(r"Loaded image: *(\S+)")
_LOADED_ID = re.compile(r"Loaded image ID: *(\S+)")
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Image:
    """An image of an OCI layout: its name, and where its configuration and its layers are in the archive."""

    name: str
    config: str
    layers: tuple[str, ...]


def load_archive(api: APIClient, archive: Path, name: str, platform: str, output: Output) -> tuple[str, ...]:
    """Load the images of an archive and return their names. An OCI index is loaded for `platform`.

    Raises BaseImageError for what is no such archive, and for an image without a name where `name` is empty.
    """
    with _readable(archive, name, platform) as data, engine_errors(f"load {archive}"):
        said = "".join(event.get("stream", "") for event in api.load_image(data))  # type: ignore[no-untyped-call]
        for line in said.splitlines():
            output(line)
        names = _LOADED.findall(said)
        for identity in _LOADED_ID.findall(said):
            reference = Reference.parse(name)
            api.tag(identity, reference.repository, reference.tag)
            names.append(name)
    if not names:
        raise BaseImageError(f"{archive} was read by Docker, which found no image in it. Look at `tar tf {archive}`.")
    return tuple(dict.fromkeys(names))


@contextmanager
def _readable(archive: Path, name: str, platform: str) -> Iterator[IO[bytes]]:
    """Yield the archive in the form that every Docker reads."""
    try:
        with tarfile.open(archive) as tar:
            members = {member.name.removeprefix("./"): member for member in tar if member.isfile()}
            if _LIST in members:
                _refuse_unnamed(archive, _document(tar, members, _LIST), name)
                images = None
            elif _INDEX in members:
                images = _images(archive, tar, members, name, platform)
            else:
                message = f"{archive} is no image archive: it has neither {_LIST} nor {_INDEX}. {_ADVICE}"
                raise BaseImageError(message)
            if images is not None:
                with tempfile.TemporaryFile() as copy:
                    _write(tar, members, images, copy)
                    copy.seek(0)
                    yield copy
                return
    except (tarfile.TarError, EOFError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        said = str(error).partition("\n")[0].rstrip(":")
        raise BaseImageError(f"the image archive {archive} cannot be read: {said}. {_ADVICE}") from error
    with archive.open("rb") as data:
        yield data


def _refuse_unnamed(archive: Path, listed: Any, name: str) -> None:
    if not name and not all(entry.get("RepoTags") for entry in listed):
        raise BaseImageError(_unnamed(archive))


def _unnamed(archive: Path) -> str:
    return f"{archive} holds an image without a name. Give it one: `imagebuild import --name NAME:TAG {archive}`."


def _images(
    archive: Path, tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], name: str, platform: str
) -> list[_Image]:
    found = []
    for entry in _document(tar, members, _INDEX)["manifests"]:
        manifest = _manifest(archive, tar, members, entry, platform)
        named = next((value for key in _NAMES if ":" in (value := (entry.get("annotations") or {}).get(key, ""))), name)
        if not named:
            raise BaseImageError(_unnamed(archive))
        layers = tuple(_blob(layer["digest"]) for layer in manifest["layers"])
        found.append(_Image(name=named, config=_blob(manifest["config"]["digest"]), layers=layers))
    return found


def _manifest(
    archive: Path,
    tar: tarfile.TarFile,
    members: Mapping[str, tarfile.TarInfo],
    entry: Mapping[str, Any],
    platform: str,
) -> Any:
    manifest = _document(tar, members, _blob(entry["digest"]))
    if "manifests" not in manifest:
        return manifest
    choices = {
        f"{of.get('os')}/{of.get('architecture')}": choice
        for choice in manifest["manifests"]
        if (of := choice.get("platform") or {})
    }
    if platform not in choices:
        raise BaseImageError(
            f"{archive} holds an image for {', '.join(sorted(choices)) or 'nothing'}, not for {platform}"
        )
    return _document(tar, members, _blob(choices[platform]["digest"]))


def _document(tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], path: str) -> Any:
    file = tar.extractfile(members[path])
    if file is None or members[path].size > _DOCUMENT_SIZE:
        raise ValueError(f"{path} is too large")
    return json.loads(file.read())


def _blob(digest: str) -> str:
    algorithm, _, hexadecimal = digest.partition(":")
    return f"blobs/{algorithm}/{hexadecimal}"


def _write(
    tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], images: list[_Image], target: IO[bytes]
) -> None:
    listed = [{"Config": image.config, "RepoTags": [image.name], "Layers": list(image.layers)} for image in images]
    text = json.dumps(listed).encode()
    with tarfile.open(fileobj=target, mode="w") as copy:
        for path in dict.fromkeys(path for image in images for path in (image.config, *image.layers)):
            member = members[path]
            info = tarfile.TarInfo(path)
            info.size = member.size
            copy.addfile(info, tar.extractfile(member))
        info = tarfile.TarInfo(_LIST)
        info.size = len(text)
        copy.addfile(info, io.BytesIO(text))
