"""Images of archives: those that Docker writes, OCI layouts, and those that lie."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_imagebuild.engines.oci.archive import LoadedImage, load
from pytest_imagebuild.engines.oci.content import Blobs
from pytest_imagebuild.engines.oci.unpack import unpack
from pytest_imagebuild.errors import BaseImageError

from .conftest import ADDRESSES, BASE, daemon
from .registries import CONFIG, INDEX, LAYER, MANIFEST, digest_of, layer

AMD64 = "linux/amd64"
ADVICE = "Write it again with `docker save`, or as an OCI layout."
LAYERS = (layer(a=b"first"), layer(b=b"second"))
PLAIN = "application/vnd.oci.image.layer.v1.tar"


class Loader:
    """Loads archives into a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = Blobs(folder / "blobs")
        self.lines: list[str] = []

    def load(self, path: Path, platform: str = AMD64) -> list[LoadedImage]:
        return load(path, self.blobs, platform, self.lines.append)

    def load_members(
        self, members: dict[str, bytes], *links: tarfile.TarInfo, packed: bool = False
    ) -> list[LoadedImage]:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as tar:
            for link in links:
                tar.addfile(link)
            for name, content in members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        path = self.folder / "image.tar"
        path.write_bytes(gzip.compress(data.getvalue()) if packed else data.getvalue())
        return self.load(path)

    def refused(self, members: dict[str, bytes], *links: tarfile.TarInfo) -> str:
        """Return why an archive is refused; nothing of it is left."""
        with pytest.raises(BaseImageError) as caught:
            self.load_members(members, *links)
        assert self.files() == []
        start = f"the image archive {self.folder / 'image.tar'} cannot be read: "
        return str(caught.value).removeprefix(start).removesuffix(f". {ADVICE}")

    def files(self) -> list[str]:
        return [path.name for path in (self.folder / "blobs").glob("*/*")]


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    return Loader(tmp_path)


def config(*layers: bytes, architecture: str = "amd64", **more: Any) -> bytes:
    root = {"type": "layers", "diff_ids": [digest_of(data) for data in layers]}
    return json.dumps({"os": "linux", "architecture": architecture, "config": more, "rootfs": root}).encode()


def saved(*layers: bytes, names: list[str] | None = None, **more: Any) -> dict[str, bytes]:
    """Return the members of an archive in the old form."""
    described = config(*layers, **more)
    name = f"{digest_of(described).removeprefix('sha256:')}.json"
    members = {f"{number}/layer.tar": data for number, data in enumerate(layers)}
    entry = {"Config": name, "RepoTags": names, "Layers": list(members)}
    return {**members, name: described, "manifest.json": json.dumps([entry]).encode()}


def blob(members: dict[str, bytes], data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    members[f"blobs/{digest_of(data).replace(':', '/')}"] = data
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}


def document(members: dict[str, bytes], media_type: str, fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    return blob(
        members, json.dumps({"schemaVersion": 2, "mediaType": media_type, **fields}).encode(), media_type, **more
    )


def layout(*entries: Callable[[dict[str, bytes]], dict[str, Any]]) -> dict[str, bytes]:
    """Return the members of an OCI layout."""
    members: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}
    index = {"schemaVersion": 2, "manifests": [entry(members) for entry in entries]}
    members["index.json"] = json.dumps(index).encode()
    return members


def image(
    *layers: bytes, architecture: str = "amd64", packed: bool = True, **more: Any
) -> Callable[[dict[str, bytes]], dict[str, Any]]:
    def add(members: dict[str, bytes]) -> dict[str, Any]:
        stored = [(gzip.compress(data, mtime=0), LAYER) if packed else (data, PLAIN) for data in layers]
        fields = {
            "config": blob(members, config(*layers, architecture=architecture, Labels={"is": architecture}), CONFIG),
            "layers": [blob(members, data, kind) for data, kind in stored],
        }
        return document(members, MANIFEST, fields, **more)

    return add


def unpacked(loader: Loader, loaded: LoadedImage, folder: Path) -> list[str]:
    """Unpack all layers of an image and return the names of what they have."""
    folder.mkdir()
    for number, found in enumerate(loaded.image.layers):
        target = folder / str(number)
        blob = loader.blobs.path(found.blob)
        unpack(blob, found.media_type, target, diff_id=found.diff_id, keep_owners=False, limit=10**9)
    return sorted(path.name for path in folder.glob("*/*"))


# What Docker writes.


@pytest.mark.parametrize("name", ADDRESSES)
def test_what_docker_saved_is_loaded_as_docker_has_it(name: str, loader: Loader) -> None:
    client = daemon(name)
    kept = client.images.pull(BASE)
    path = loader.folder / "saved.tar"
    with path.open("wb") as file:
        for part in kept.save(named=BASE):
            file.write(part)
    client.close()
    (loaded,) = loader.load(path)
    assert loaded.image.id == kept.id
    assert [layer.diff_id for layer in loaded.image.layers] == kept.attrs["RootFS"]["Layers"]
    assert loaded.image.config["Cmd"] == kept.attrs["Config"]["Cmd"]
    assert loaded.names == (BASE,)
    assert {"bin", "etc", "usr"} <= set(unpacked(loader, loaded, loader.folder / "layers"))
    assert loader.lines[0] == f"saved.tar: {kept.id.removeprefix('sha256:')[:12]}: Loaded"


@pytest.mark.parametrize("packed", [False, True])
def test_the_old_form_is_loaded_from_plain_and_packed_archives(packed: bool, loader: Loader) -> None:
    (loaded,) = loader.load_members(saved(*LAYERS, names=["one:1", "two:2"], Env=["A=b"]), packed=packed)
    assert loaded.names == ("one:1", "two:2")
    assert loaded.image.config == {"Env": ["A=b"]}
    assert [(layer.diff_id, layer.blob) for layer in loaded.image.layers] == [(digest_of(data),) * 2 for data in LAYERS]
    assert unpacked(loader, loaded, loader.folder / "layers") == ["a", "b"]


def test_a_layer_that_is_a_link_to_another_is_found(loader: Loader) -> None:
    members = saved(LAYERS[0], LAYERS[0])
    del members["1/layer.tar"]
    link = tarfile.TarInfo("1/layer.tar")
    link.type, link.linkname = tarfile.SYMTYPE, "../0/layer.tar"
    (loaded,) = loader.load_members(members, link)
    assert len({layer.blob for layer in loaded.image.layers}) == 1


def test_only_what_the_images_need_is_kept(loader: Loader) -> None:
    loader.load_members({**saved(LAYERS[0]), "0/VERSION": b"1.0", "0/json": b"{}", "repositories": b"{}"})
    assert len(loader.files()) == 2


# OCI layouts.


def test_an_oci_layout_is_loaded_from_a_file_and_from_a_folder(loader: Loader) -> None:
    names: dict[str, Any] = {
        "annotations": {"org.opencontainers.image.ref.name": "latest", "io.containerd.image.name": "docker.io/x:1"}
    }
    members = layout(image(*LAYERS, **names))
    for name, data in members.items():
        path = loader.folder / "layout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert loader.load(loader.folder / "layout") == loader.load_members(members)
    (loaded,) = loader.load_members(members)
    assert loaded.names == ("docker.io/x:1",)
    assert [layer.media_type for layer in loaded.image.layers] == [LAYER, LAYER]
    assert unpacked(loader, loaded, loader.folder / "layers") == ["a", "b"]


def both(members: dict[str, bytes]) -> dict[str, Any]:
    entries = [
        image(LAYERS[0], architecture=name, platform={"os": "linux", "architecture": name})(members)
        for name in ("arm64", "amd64")
    ]
    return document(members, INDEX, {"manifests": entries})


def test_the_image_of_the_platform_is_taken(loader: Loader) -> None:
    (loaded,) = loader.load_members(layout(both))
    assert loaded.image.config["Labels"] == {"is": "amd64"}


def test_images_of_other_platforms_beside_it_are_left_out(loader: Loader) -> None:
    entries = [
        image(LAYERS[0], architecture=name, platform={"os": "linux", "architecture": name})
        for name in ("arm64", "amd64")
    ]
    (loaded,) = loader.load_members(layout(*entries))
    assert loaded.image.config["Labels"] == {"is": "amd64"}


def test_an_archive_without_the_platform_says_what_it_has(loader: Loader) -> None:
    loader.load_members(layout(both))
    path = loader.folder / "image.tar"
    with pytest.raises(BaseImageError) as caught:
        loader.load(path, "linux/s390x")
    assert str(caught.value) == f"{path} has no image for linux/s390x; it has linux/amd64, linux/arm64."


# Archives that lie.


def changed(members: dict[str, bytes], name: str, data: bytes | None) -> dict[str, bytes]:
    rest = {key: value for key, value in members.items() if not key.endswith(name)}
    return rest if data is None else {**rest, next(key for key in members if key.endswith(name)): data}


def test_a_layer_of_another_digest_is_refused(loader: Loader) -> None:
    said = loader.refused(changed(saved(*LAYERS), "1/layer.tar", LAYERS[0]))
    assert said == f"its layer {digest_of(LAYERS[1])} has the digest {digest_of(LAYERS[0])}"


def test_a_configuration_of_another_digest_is_refused(loader: Loader) -> None:
    described, other = config(LAYERS[0]), config(LAYERS[0], User="root")
    name = f"{digest_of(described).removeprefix('sha256:')}.json"
    said = loader.refused(changed(saved(LAYERS[0]), name, other))
    assert said == f"its configuration {name} has the digest {digest_of(other)}"


def test_a_blob_of_another_digest_is_refused(loader: Loader) -> None:
    packed = gzip.compress(LAYERS[0], mtime=0)
    name = f"blobs/{digest_of(packed).replace(':', '/')}"
    said = loader.refused(changed(layout(image(LAYERS[0])), name, bytes(len(packed))))
    assert said.startswith(
        f"its blob {digest_of(packed)} of {len(packed)} bytes has the digest {digest_of(bytes(len(packed)))}"
    )


def test_a_blob_that_is_missing_is_named(loader: Loader) -> None:
    packed = gzip.compress(LAYERS[0], mtime=0)
    name = f"blobs/{digest_of(packed).replace(':', '/')}"
    said = loader.refused(changed(layout(image(LAYERS[0])), name, None))
    assert said == f"it does not have the blob {digest_of(packed)}; it may have been written for another platform"


@pytest.mark.parametrize("name", ["/etc/hostname", "../../etc/hostname", "no-such", None, 7])
def test_a_name_in_a_manifest_is_no_path(name: object, loader: Loader) -> None:
    members = saved(LAYERS[0])
    entry = {"Config": name, "Layers": ["0/layer.tar"]}
    said = loader.refused({**members, "manifest.json": json.dumps([entry]).encode()})
    assert said == f"its manifest.json names {str(name)!r}, which it does not have"


def test_a_link_in_an_archive_reaches_no_file(loader: Loader) -> None:
    link = tarfile.TarInfo("0/layer.tar")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    members = saved(LAYERS[0])
    del members["0/layer.tar"]
    assert loader.refused(members, link) == "its manifest.json names '0/layer.tar', which it does not have"


def test_links_in_a_circle_end(loader: Loader) -> None:
    links = []
    for name, target in (("0/layer.tar", "../1/layer.tar"), ("1/layer.tar", "../0/layer.tar")):
        links.append(tarfile.TarInfo(name))
        links[-1].type, links[-1].linkname = tarfile.SYMTYPE, target
    members = saved(LAYERS[0])
    del members["0/layer.tar"]
    assert loader.refused(members, *links) == "its manifest.json names '0/layer.tar', which it does not have"


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (
            {"manifest.json": b"[{"},
            "its manifest.json is not JSON (Expecting property name enclosed in double quotes: ",
        ),
        ({"manifest.json": b"[7]"}, "its manifest.json is damaged"),
        ({"manifest.json": b'{"Layers": 7}'}, "its manifest.json is damaged"),
        ({"manifest.json": bytes(5_000_000)}, "manifest.json has 5000000 bytes, more than 4194304"),
        ({"manifest.json": b"[" * 100_000}, "its manifest.json is not JSON ("),
        ({"index.json": b"{}"}, "its index.json is no index"),
    ],
)
def test_damaged_metadata_is_refused(members: dict[str, bytes], said: str, loader: Loader) -> None:
    assert loader.refused(members).startswith(said)


def test_a_root_file_system_is_no_image(loader: Loader) -> None:
    assert loader.refused({"etc/hostname": b"x"}) == (
        f"{loader.folder / 'image.tar'} is no image archive: it has neither manifest.json nor index.json. {ADVICE} A "
        "plain root file system becomes an image with `docker import`."
    )


def test_what_is_no_tar_is_refused(loader: Loader) -> None:
    path = loader.folder / "image.tar"
    path.write_bytes(b"<html>" * 1000)
    with pytest.raises(BaseImageError, match=f"the image archive {path} cannot be read: a header has"):
        loader.load(path)


def test_a_file_that_is_not_there_is_named(loader: Loader) -> None:
    path = loader.folder / "nothing.tar"
    with pytest.raises(BaseImageError, match=f"the image archive {path} cannot be read: No such file or directory"):
        loader.load(path)
