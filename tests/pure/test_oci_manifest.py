"""Manifests and indexes of strangers, the names of registries, and content by its digest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_imagebuild.engines.oci.content import Blobs, WrongContent, digest_of
from pytest_imagebuild.engines.oci.credentials import Challenge
from pytest_imagebuild.engines.oci.manifest import Index, Manifest, parse_image, parse_manifest
from pytest_imagebuild.engines.oci.places import places
from pytest_imagebuild.engines.references import Reference
from pytest_imagebuild.errors import BaseImageError

ONE, TWO = (f"sha256:{digit * 64}" for digit in "12")
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def descriptor(digest: str = ONE, media_type: str = LAYER, size: object = 1, **more: Any) -> dict[str, Any]:
    return {"digest": digest, "mediaType": media_type, "size": size, **more}


def manifest(*layers: dict[str, Any], **more: Any) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(media_type=CONFIG),
        "layers": list(layers),
    }
    return json.dumps({**document, **more}).encode()


def index(*platforms: str) -> Index:
    entries = []
    for number, platform in enumerate(platforms):
        names = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
        entries.append(descriptor(f"sha256:{number:064x}", MANIFEST, platform=names))
    parsed = parse_manifest(json.dumps({"schemaVersion": 2, "manifests": entries}).encode(), "image:1")
    assert isinstance(parsed, Index)
    return parsed


def assembled(document: bytes, **config: Any) -> Any:
    parsed = parse_manifest(document, "image:1")
    assert isinstance(parsed, Manifest)
    described = {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [TWO]}, **config}
    return parse_image(parsed, json.dumps(described).encode(), "linux/amd64", "image:1")


def test_an_image_is_named_by_the_digest_of_its_configuration() -> None:
    image = assembled(manifest(descriptor()), config={"Env": ["A=b"]})
    assert image.id.startswith("sha256:")
    assert image.config == {"Env": ["A=b"]}
    assert [(layer.blob, layer.diff_id, layer.size) for layer in image.layers] == [(ONE, TWO, 1)]


def test_a_configuration_without_settings_is_an_empty_object() -> None:
    assert assembled(manifest(descriptor()), config=None).config == {}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"{", "the manifest of image:1 is not JSON ("),
        (b"[]", "the manifest of image:1 is JSON, but no object. Push the image again."),
        (b"[" * 100_000, "the manifest of image:1 is not JSON ("),
        (b" " * 5_000_000, "the manifest of image:1 has more than 4 MiB, which no registry may serve."),
        (
            b'{"schemaVersion": 1}',
            "image:1 has a manifest of Docker's schema 1, which no registry has to serve any mor",
        ),
        (b"{}", "image:1 is neither an image nor an index of images, but ''. Name an image."),
        (manifest(layers=7), "the manifest of image:1 needs a list of at most 1000 layers; it has none."),
        (
            manifest(*[descriptor()] * 1001),
            "the manifest of image:1 needs a list of at most 1000 layers; it has 1001 entries.",
        ),
        (manifest(layers=[7]), "the manifest of image:1 has an entry that is no object. Push the image again."),
        (manifest(descriptor("../../etc")), "'../../etc' is not a digest that is known here: only sha256:<64 hexade"),
        (manifest(descriptor("sha512:" + "0" * 128)), "'sha512:0000"),
        (manifest(descriptor(size=-1)), "the manifest of image:1 has an entry without a size or a media type. Push"),
        (manifest(descriptor(size="1")), "the manifest of image:1 has an entry without a size or a media type. Push"),
        (manifest(descriptor(size=True)), "the manifest of image:1 has an entry without a size or a media type. Push"),
        (
            manifest(config=descriptor(media_type="application/vnd.cncf.helm.config.v1+json")),
            "image:1 is no container image: its configuration is a 'application/vnd.cncf.helm.config.v1+json'. Name an",
        ),
    ],
)
def test_a_damaged_manifest_is_refused(document: bytes, said: str) -> None:
    with pytest.raises(BaseImageError) as caught:
        parse_manifest(document, "image:1")
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("layer", "config", "said"),
    [
        (
            descriptor(media_type="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
            {},
            (
                "image:1 has a foreign layer (application/vnd.docker.image.rootfs.foreign.diff.tar.gzip), which "
                "registries do not hold. Such images are for Windows; name one for Linux."
            ),
        ),
        (
            descriptor(media_type="text/html"),
            {},
            "image:1 has a layer of the type 'text/html', which no engine unpacks.",
        ),
        (
            descriptor(),
            {"architecture": "arm64"},
            "image:1 is an image for linux/arm64, not for linux/amd64. Name one that has linux/amd64.",
        ),
        (
            descriptor(),
            {"rootfs": {"diff_ids": []}},
            "the configuration of image:1 names 0 layers where its manifest has 1. Push the image again.",
        ),
        (
            descriptor(),
            {"rootfs": 7},
            "the configuration of image:1 names no layers where its manifest has 1. Push the image again.",
        ),
        (
            descriptor(),
            {"config": [7]},
            "the configuration of image:1 is damaged: its `config` is no object. Push the image again.",
        ),
    ],
)
def test_a_manifest_and_a_configuration_that_do_not_fit_are_refused(
    layer: dict[str, Any], config: dict[str, Any], said: str
) -> None:
    with pytest.raises(BaseImageError) as caught:
        assembled(manifest(layer), **config)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("wanted", "there", "chosen"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
        ("linux/amd64", ["linux/amd64/v3", "linux/amd64/v1"], 1),
        ("linux/arm64", ["linux/arm/v7", "linux/arm64/v8"], 1),
        ("linux/arm64/v8", ["linux/arm64"], 0),
        ("linux/arm", ["linux/arm/v6", "linux/arm/v7"], 1),
        ("linux/s390x", ["windows/s390x", "linux/s390x"], 1),
    ],
)
def test_the_best_variant_of_a_platform_is_chosen(wanted: str, there: list[str], chosen: int) -> None:
    assert index(*there).choose(wanted, "image:1").digest == f"sha256:{chosen:064x}"


def test_an_index_without_the_platform_says_what_it_has() -> None:
    with pytest.raises(BaseImageError) as caught:
        index("linux/arm64/v8", "linux/amd64/v3", "unknown/unknown").choose("linux/amd64", "image:1")
    assert str(caught.value) == "image:1 has no image for linux/amd64; it has linux/amd64/v3, linux/arm64/v8."


# Places.


def asked(reference: str, mirrors: str = "", home: Path = Path("/nowhere")) -> list[str]:
    environ = {"HOME": str(home), "IMAGEBUILD_REGISTRY_MIRRORS": mirrors}
    return [f"{place.url} {place.repository}" for place in places(Reference.parse(reference), environ)]


@pytest.mark.parametrize(
    ("reference", "place"),
    [
        ("python:3.13", "https://registry-1.docker.io library/python"),
        ("docker.io/python", "https://registry-1.docker.io library/python"),
        ("index.docker.io/some/image", "https://registry-1.docker.io some/image"),
        ("some/image", "https://registry-1.docker.io some/image"),
        ("ghcr.io/some/deep/image:1", "https://ghcr.io some/deep/image"),
        ("example.org:5000/image", "https://example.org:5000 image"),
        ("localhost/image", "http://localhost image"),
        ("localhost:5000/image", "http://localhost:5000 image"),
        ("127.0.0.9:5000/image", "http://127.0.0.9:5000 image"),
        ("[::1]:5000/image", "http://[::1]:5000 image"),
        ("10.0.0.1:5000/image", "https://10.0.0.1:5000 image"),
        ("127.0.0.1.example.org/image", "https://127.0.0.1.example.org image"),
    ],
)
def test_a_reference_names_one_address(reference: str, place: str) -> None:
    assert asked(reference) == [place]


def test_mirrors_come_before_the_registry_that_they_mirror() -> None:
    mirrors = "https://one.example/, ghcr.io=https://two.example/prefix ,http://three.example:81"
    assert [place.partition(" ")[0] for place in asked("python", mirrors)] == [
        "https://one.example",
        "http://three.example:81",
        "https://registry-1.docker.io",
    ]
    assert [place.partition(" ")[0] for place in asked("ghcr.io/a/b", mirrors)] == [
        "https://two.example/prefix",
        "https://ghcr.io",
    ]
    assert len(asked("quay.io/a/b", mirrors)) == 1


def test_docker_names_the_registries_that_may_be_insecure(tmp_path: Path) -> None:
    settings = tmp_path / ".config" / "docker" / "daemon.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"insecure-registries": ["plain.example:5000", "10.0.0.0/8", "no/network"]}))
    assert asked("plain.example:5000/a", home=tmp_path) == ["http://plain.example:5000 a"]
    assert asked("plain.example/a", home=tmp_path) == ["https://plain.example a"]
    assert asked("10.1.2.3:5000/a", home=tmp_path) == ["http://10.1.2.3:5000 a"]


@pytest.mark.parametrize("mirror", ["mirror.example", "ftp://mirror.example", "https://", "https://a:b", "ghcr.io=x"])
def test_a_mirror_without_an_address_is_an_error(mirror: str) -> None:
    with pytest.raises(BaseImageError, match=r"IMAGEBUILD_REGISTRY_MIRRORS, or .* has a mirror that is no address"):
        asked("ghcr.io/a" if "ghcr" in mirror else "python", mirror)


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        (
            'Bearer realm="https://auth.example/token",service="a b",scope="repository:x:pull,push"',
            Challenge(
                scheme="bearer", realm="https://auth.example/token", service="a b", scope="repository:x:pull,push"
            ),
        ),
        ('Basic realm="x", bearer realm="https://y"', Challenge(scheme="bearer", realm="https://y")),
        ("basic", Challenge(scheme="basic")),
        ("Negotiate", None),
        ("", None),
    ],
)
def test_a_challenge_is_read_from_its_header(header: str, challenge: Challenge | None) -> None:
    assert Challenge.parse(header) == challenge


# Content.


def test_content_is_found_by_its_digest(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    digest = blobs.add(b"content")
    assert digest == digest_of(b"content")
    assert blobs.has(digest)
    assert blobs.read(digest) == b"content"
    assert [path.name for path in tmp_path.glob("*/*")] == [digest.removeprefix("sha256:")]


def test_content_that_was_changed_is_found_and_forgotten(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    digest = blobs.add(b"content")
    assert blobs.verify(digest)
    blobs.path(digest).write_bytes(b"changed")
    with pytest.raises(WrongContent):
        blobs.read(digest)
    assert not blobs.verify(digest)
    assert not blobs.has(digest)
    assert not blobs.verify(digest)


def test_an_interrupted_blob_goes_on_where_it_ended(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    digest = digest_of(b"content")
    with blobs.lock(digest), blobs.partial(digest, 7) as partial:
        partial.write(b"con")
    assert not blobs.has(digest)
    with blobs.lock(digest), blobs.partial(digest, 7) as partial:
        assert (partial.size, partial.was_resumed) == (3, True)
        partial.write(b"tent")
        partial.finish()
    assert blobs.read(digest) == b"content"


def test_content_of_another_digest_gets_no_name(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    digest = digest_of(b"content")
    with blobs.lock(digest), blobs.partial(digest, 7) as partial:
        partial.write(b"CONTENT")
        with pytest.raises(WrongContent):
            partial.finish()
        assert partial.size == 0
    assert not blobs.has(digest)


def test_staged_content_is_gone_unless_it_was_kept(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    with blobs.stage() as staged:
        staged.write(b"content")
    assert list(tmp_path.glob("*/*")) == []


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pytest_imagebuild.engines.oci.content import Blobs
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
blobs = Blobs(Path(sys.argv[2]))
data = bytes(300_000)
if sys.argv[3] == "stage":
    blobs.add(data)
digest = "sha256:" + "0" * 64
with blobs.lock(digest), blobs.partial(digest, 300_000) as partial:
    partial.write(data)
"""


@pytest.mark.parametrize("way", ["stage", "partial"])
def test_a_full_disk_is_named(way: str, tmp_path: Path) -> None:
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-c", FULL, root, str(tmp_path), way]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("pytest_imagebuild.errors.BaseImageError: content cannot be written to ")
    assert last.endswith(": File too large. Make room, or choose another cache folder with IMAGEBUILD_CACHE_DIR.")


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:" + "A" * 64, "sha256:../../" + "0" * 58, ONE + "\n"])
def test_what_is_no_digest_names_no_file(digest: str, tmp_path: Path) -> None:
    with pytest.raises(BaseImageError, match="is not a digest that is known here"):
        Blobs(tmp_path).path(digest)
