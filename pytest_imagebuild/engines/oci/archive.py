"""Images of an archive file: what `docker save` writes, in its old and its new form, and OCI layouts.

Such a file may come from anybody. Its names are compared with each other and never used as paths; all content goes
through the blob store, where it gets the digest that it really has.
"""

from __future__ import annotations

import contextlib
import json
import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_imagebuild.engines.oci.content import Blobs, Staged
from pytest_imagebuild.engines.oci.inflate import GZIP, ZSTD, Inflated
from pytest_imagebuild.engines.oci.manifest import (
    MOST_METADATA,
    Descriptor,
    Index,
    Manifest,
    OciImage,
    parse_image,
    parse_json,
    parse_manifest,
)
from pytest_imagebuild.engines.oci.progress import Progress
from pytest_imagebuild.engines.oci.tarstream import Entry, Tar, TarError
from pytest_imagebuild.engines.protocol import Output
from pytest_imagebuild.errors import BaseImageError

__all__ = ["LoadedImage", "load"]

_MOST_MEMBERS = 10_000
_MOST_BYTES = 256 * 1024**3
_MOST_LINKS = 40
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")

# Returns a member of the archive, or None.
_Find = Callable[[str], Staged | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedImage:
    """An image of an archive, and the names that the archive gives it."""

    image: OciImage
    names: tuple[str, ...]


def load(path: Path, blobs: Blobs, platform: str, output: Output) -> list[LoadedImage]:
    """Put the images of the file or folder at `path` into `blobs`. Raises BaseImageError."""
    try:
        with contextlib.ExitStack() as stack:
            find = (_folder if path.is_dir() else _members)(path, blobs, stack)
            return _Archive(path, find, platform, Progress(path.name, output)).images()
    except (TarError, OSError) as error:
        said = error.strerror or error if isinstance(error, OSError) else error
        raise BaseImageError(f"the image archive {path} cannot be read: {said}. {_ADVICE}") from error


_ADVICE = "Write it again with `docker save`, or as an OCI layout."


class _Archive:
    """Finds images in the members of one archive."""

    def __init__(self, path: Path, find: _Find, platform: str, progress: Progress) -> None:
        self._path = path
        self._find = find
        self._platform = platform
        self._progress = progress

    def images(self) -> list[LoadedImage]:
        """Return each image once, with all of its names."""
        saved, layout = self._find("manifest.json"), self._find("index.json")
        if saved is not None:
            found = self._saved(saved)
        elif layout is not None:
            found = self._layout(layout)
        else:
            message = (
                f"{self._path} is no image archive: it has neither manifest.json nor index.json. {_ADVICE} A plain "
                "root file system becomes an image with `docker import`."
            )
            raise BaseImageError(message)
        names: dict[str, list[str]] = {}
        images = {}
        for image, of in found:
            images[image.id] = image
            names.setdefault(image.id, []).extend(name for name in of if name not in names.get(image.id, ()))
        return [LoadedImage(image=image, names=tuple(names[key])) for key, image in images.items()]

    def _saved(self, saved: Staged) -> Iterator[tuple[OciImage, list[str]]]:
        """Read the form of `docker save`, which names members by their paths."""
        try:
            entries = json.loads(self._small(saved, "manifest.json"))
        except (ValueError, RecursionError) as error:
            raise TarError(f"its manifest.json is not JSON ({error})") from error
        for entry in entries if isinstance(entries, list) else [entries]:
            layers = entry.get("Layers") if isinstance(entry, dict) else None
            if not isinstance(layers, list):
                raise TarError("its manifest.json is damaged")
            config = self._member(entry.get("Config"))
            name = re.search(r"([0-9a-f]{64})(?:\.json)?$", str(entry.get("Config")))
            if name and f"sha256:{name[1]}" != config.digest:
                raise TarError(f"its configuration {name[0]} has the digest {config.digest}")
            found = [self._member(layer) for layer in layers]
            yield self._image(config, found, [_media_type(layer) for layer in found]), _strings(entry.get("RepoTags"))

    def _layout(self, layout: Staged) -> Iterator[tuple[OciImage, list[str]]]:
        """Read an OCI layout, which names members by their digests (image-layout.md)."""
        index = self._index(layout)
        wanted = [entry for entry in index.manifests if entry.serves(self._platform)]
        for entry in wanted or [index.choose(self._platform, str(self._path))]:
            manifest = self._manifest(entry)
            config = self._blob(manifest.config)
            layers = [self._blob(layer) for layer in manifest.layers]
            name = next((entry.annotations[key] for key in _NAMES if key in entry.annotations), None)
            image = self._image(config, layers, [layer.media_type for layer in manifest.layers])
            yield image, [] if name is None else [name]

    def _index(self, layout: Staged) -> Index:
        data = self._small(layout, "index.json")
        parsed = parse_json(data, f"index.json of {self._path}")
        if "manifests" not in parsed:
            raise TarError("its index.json is no index")
        index = parse_manifest(data, str(self._path))
        if not isinstance(index, Index):
            raise TarError("its index.json is no index")
        return index

    def _manifest(self, entry: Descriptor) -> Manifest:
        parsed = parse_manifest(self._small(self._blob(entry), entry.digest), str(self._path), entry.media_type)
        if isinstance(parsed, Index):
            chosen = parsed.choose(self._platform, str(self._path))
            parsed = parse_manifest(self._small(self._blob(chosen), chosen.digest), str(self._path), chosen.media_type)
        if isinstance(parsed, Index):
            raise TarError("it has an index of indexes of indexes")
        return parsed

    def _image(self, config: Staged, layers: list[Staged], types: list[str]) -> OciImage:
        manifest = Manifest(
            config=_descriptor(config, _CONFIG),
            layers=tuple(_descriptor(layer, kind) for layer, kind in zip(layers, types, strict=True)),
        )
        image = parse_image(manifest, self._small(config, "the configuration"), self._platform, str(self._path))
        for layer in image.layers:
            if layer.media_type == _LAYER and layer.blob != layer.diff_id:
                raise TarError(f"its layer {layer.diff_id} has the digest {layer.blob}")
        for staged in (config, *layers):
            staged.keep()
            self._progress.status(staged.digest, "Loaded")
        return image

    def _member(self, name: object) -> Staged:
        found = self._find(name) if isinstance(name, str) else None
        if found is None:
            raise TarError(f"its manifest.json names {str(name)[:200]!r}, which it does not have")
        return found

    def _blob(self, blob: Descriptor) -> Staged:
        found = self._find(f"blobs/{blob.digest.replace(':', '/')}")
        if found is None:
            raise TarError(f"it does not have the blob {blob.digest}; it may have been written for another platform")
        if (found.digest, found.size) != (blob.digest, blob.size):
            raise TarError(
                f"its blob {blob.digest} of {blob.size} bytes has the digest {found.digest} and {found.size}"
            )
        return found

    def _small(self, member: Staged, what: str) -> bytes:
        if member.size > MOST_METADATA:
            raise TarError(f"{what} has {member.size} bytes, more than {MOST_METADATA}")
        return member.read()


def _members(path: Path, blobs: Blobs, stack: contextlib.ExitStack) -> _Find:
    """Stage every member of a tar, in the one pass that a packed one allows."""
    members: dict[str, Staged] = {}
    links: dict[str, str] = {}
    with contextlib.closing(Inflated(path, _MOST_BYTES)) as source:
        tar = Tar(source.read)
        for count, entry in enumerate(tar):
            if count >= _MOST_MEMBERS:
                raise TarError(f"it has more than {_MOST_MEMBERS} members")
            name = _normal(entry.name)
            if entry.is_symlink or entry.is_hardlink:
                links[name] = _linked(entry)
            elif entry.is_file and not entry.is_sparse:
                members[name] = staged = stack.enter_context(blobs.stage())
                for _, part in tar.content():
                    staged.write(part)
                staged.seal()

    def find(name: str) -> Staged | None:
        name = posixpath.normpath(name)
        for _ in range(_MOST_LINKS):
            if name not in links or name in members:
                break
            name = links[name]
        return members.get(name)

    return find


def _folder(path: Path, blobs: Blobs, stack: contextlib.ExitStack) -> _Find:
    """Stage the members of an OCI layout that is a folder when they are asked for."""

    def find(name: str) -> Staged | None:
        if not re.fullmatch(r"index\.json|blobs/sha256/[0-9a-f]{64}", name):
            return None
        if not (path / name).is_file():
            return None
        staged = stack.enter_context(blobs.stage())
        with (path / name).open("rb") as file:
            while part := file.read(1024 * 1024):
                staged.write(part)
        staged.seal()
        return staged

    return find


def _normal(name: bytes) -> str:
    return posixpath.normpath(name.decode("utf-8", "surrogateescape"))


def _linked(entry: Entry) -> str:
    link = entry.link.decode("utf-8", "surrogateescape")
    return posixpath.normpath(
        posixpath.join(posixpath.dirname(_normal(entry.name)), link) if entry.is_symlink else link
    )


def _descriptor(staged: Staged, media_type: str) -> Descriptor:
    return Descriptor(digest=staged.digest, media_type=media_type, size=staged.size, annotations={})


def _media_type(layer: Staged) -> str:
    start = layer.read(4)
    return f"{_LAYER}+gzip" if start[:2] == GZIP else f"{_LAYER}+zstd" if start == ZSTD else _LAYER


def _strings(value: object) -> list[str]:
    return [entry for entry in value if isinstance(entry, str)] if isinstance(value, list) else []
