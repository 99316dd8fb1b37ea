"""What every engine promises of housekeeping: sizes that add up, and nothing removed that somebody needs."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import time
from pathlib import Path
from typing import Literal

import pytest

from pytest_imagebuild.engines.layers import BuiltLayer, LayerLabels
from pytest_imagebuild.engines.protocol import Engine, SessionSpec
from pytest_imagebuild.engines.stored import StoredLayer
from pytest_imagebuild.engines.work import Work
from pytest_imagebuild.errors import BaseImageError

from .conftest import RUN, Bench, new_key

MEBIBYTE = 1024 * 1024


def fill(size: int) -> str:
    return f"head -c {size} /dev/urandom > /filled-{new_key()}"


def stored(engine: Engine, layer: BuiltLayer) -> StoredLayer | None:
    return {one.built.labels.key: one for one in engine.stored()}.get(layer.labels.key)


def must_be_stored(engine: Engine, layer: BuiltLayer) -> StoredLayer:
    found = stored(engine, layer)
    assert found is not None
    return found


def child(bench: Bench, parent: BuiltLayer, *commands: str) -> BuiltLayer:
    labels = bench.labels(parent=parent.labels.key)
    return bench.engine.build(parent, Work(commands=commands), labels, print)


def test_every_layer_of_the_cache_is_stored_and_no_other(bench: Bench) -> None:
    layer = bench.build("true")
    thrown_away = bench.build("true", namespace="Run-9")
    found = {one.built.labels.key: one.built for one in bench.engine.stored()}
    assert found == dict(bench.engine.layers())
    assert layer.labels.key in found
    assert thrown_away.labels.key not in found
    bench.engine.drop("Run-9")


def test_a_layer_is_removed_once(bench: Bench) -> None:
    layer = bench.build("true")
    item = must_be_stored(bench.engine, layer)
    assert bench.engine.remove(item) == item.own_size
    assert bench.engine.find(layer.labels.key) is None
    assert stored(bench.engine, layer) is None
    assert bench.engine.remove(item) == 0, "it is gone already"


def test_a_layer_on_which_another_stands_stays(bench: Bench) -> None:
    lower = bench.build("true")
    upper = child(bench, lower, "true")
    items = [must_be_stored(bench.engine, layer) for layer in (lower, upper)]
    assert bench.engine.remove(items[0]) is None
    assert bench.engine.find(lower.labels.key) == lower
    assert [bench.engine.remove(item) is None for item in reversed(items)] == [False, False]


def test_a_layer_that_was_replaced_since_it_was_listed_stays(bench: Bench) -> None:
    key = new_key()
    item = must_be_stored(bench.engine, bench.build("true", key=key))
    second = bench.build("true", "true", key=key)
    if second.reference == item.built.reference:
        pytest.fail("the second layer should be another one")
    assert bench.engine.remove(item) is None
    assert bench.engine.find(key) == second


def test_a_key_can_be_built_again_after_its_removal(bench: Bench) -> None:
    key = new_key()
    bench.engine.remove(must_be_stored(bench.engine, bench.build("true", key=key)))
    again = bench.build("true", key=key)
    assert bench.engine.find(key) == again


def test_a_layer_holds_what_its_step_wrote(box: Bench) -> None:
    lower = box.build(fill(3 * MEBIBYTE))
    upper = child(box, lower, fill(MEBIBYTE))
    sizes = [must_be_stored(box.engine, layer).own_size for layer in (lower, upper)]
    assert sizes == [pytest.approx(3 * MEBIBYTE, rel=0.05), pytest.approx(MEBIBYTE, rel=0.1)]


def test_a_layer_that_a_container_runs_of_is_in_use_and_stays_until_that_ends(box: Bench) -> None:
    lower = box.build("true")
    upper = child(box, lower, "true")
    container = box.engine.start(upper, SessionSpec(command=("/bin/cat",)))
    try:
        items = [must_be_stored(box.engine, layer) for layer in (upper, lower)]
        assert items[0].in_use
        assert [box.engine.remove(item) for item in items] == [None, None]
        container.channel.send(b"still here\n")
        assert container.channel.receive(10)
    finally:
        container.stop()
    # An engine may still be busy with the removal of the container.
    until = time.monotonic() + 20
    while (item := must_be_stored(box.engine, upper)).in_use and time.monotonic() < until:
        time.sleep(0.05)
    assert not item.in_use
    assert box.engine.remove(item) is not None


def test_a_removed_layer_frees_its_bytes_on_the_disk_that_is_seen_by_the_engine(box: Bench) -> None:
    before = sum(one.own_size for one in box.engine.stored())
    layer = box.build(fill(2 * MEBIBYTE))
    item = must_be_stored(box.engine, layer)
    freed = box.engine.remove(item)
    assert freed == pytest.approx(2 * MEBIBYTE, rel=0.05)
    assert sum(one.own_size for one in box.engine.stored()) == before


def test_nothing_is_left_over_while_runs_live(bench: Bench) -> None:
    bench.build("true")
    bench.engine.sweep()
    before = {remnant.name for remnant in bench.engine.remnants()}
    layer = bench.build("true")
    bench.build("true", namespace="Run-8")
    assert {remnant.name for remnant in bench.engine.remnants()} == before
    assert bench.engine.find(layer.labels.key) == layer
    bench.engine.drop("Run-8")


@pytest.mark.parametrize("compression", ["w", "w:gz"])
def test_an_image_of_an_oci_layout_is_found_by_its_name(
    box: Bench, tmp_path: Path, compression: Literal["w", "w:gz"]
) -> None:
    name = f"loaded/{new_key()}:1".lower()
    archive = tmp_path / "image.tar"
    write_layout(
        archive, box, {"io.containerd.image.name": f"docker.io/{name}"}, b"from an archive\n", mode=compression
    )
    assert box.engine.load(archive, "", print) == (name,)
    assert_is_local(box, name, "from an archive\n")


def test_an_image_without_a_name_takes_the_one_that_it_is_given(box: Bench, tmp_path: Path) -> None:
    name = f"loaded/{new_key()}:2".lower()
    archive = tmp_path / "image.tar"
    write_layout(archive, box, {"org.opencontainers.image.ref.name": "latest"}, b"named\n")
    with pytest.raises(
        BaseImageError, match=r"holds an image without a name\. Give it one: `imagebuild import --name NAME:TAG"
    ):
        box.engine.load(archive, "", print)
    assert box.engine.load(archive, name, print) == (name,)
    assert_is_local(box, name, "named\n")


@pytest.mark.parametrize("content", ["nothing", "text", "empty tar", "other tar", "cut off"])
def test_what_is_no_archive_of_images_is_refused(box: Bench, tmp_path: Path, content: str) -> None:
    archive = tmp_path / "image.tar"
    write_layout(archive, box, {"io.containerd.image.name": "x:1"}, b"x")
    whole = archive.read_bytes()
    if content == "nothing":
        archive.write_bytes(b"")
    elif content == "text":
        archive.write_text("not a tar at all\n" * 100)
    elif content == "cut off":
        archive.write_bytes(whole[: len(whole) // 3])
    else:
        with tarfile.open(archive, "w") as tar:
            if content == "other tar":
                tar.addfile(tarfile.TarInfo("readme.txt"))
    with pytest.raises(BaseImageError, match=r"image\.tar") as caught:
        box.engine.load(archive, "", print)
    assert "\n" not in str(caught.value)


def assert_is_local(box: Bench, name: str, text: str) -> None:
    pin = box.engine.pin_base(name, print)
    assert pin.source == "local"
    labels = LayerLabels(key=new_key(), parent="", generation="", run=RUN)
    layer = box.engine.import_base(name, pin, labels, print)
    assert box.run("cat /hello", on=layer) == text
    assert box.run("echo $COLOUR", on=layer) == "blue\n", "the configuration counts"


_shells: dict[str, bytes] = {}


def shell(box: Bench) -> bytes:
    """Return a tar of just enough to run `sh` and `cat`."""
    if box.base.reference not in _shells:
        needed = "bin/sh bin/cat lib/*-linux-gnu/libc.so.6 lib64/ld-linux-*"
        work = Work(commands=(f"cd / && tar chf - {needed}",))
        _shells[box.base.reference] = box.engine.run(box.base, work, print)
    return _shells[box.base.reference]


def write_layout(
    path: Path, box: Bench, annotations: dict[str, str], content: bytes, *, mode: Literal["w", "w:gz"] = "w"
) -> None:
    """Write a tar of an OCI layout (OCI image spec, image-layout.md) with one image: a shell and one file."""
    layer = io.BytesIO(shell(box))
    with tarfile.open(fileobj=layer, mode="a") as tar:
        info = tarfile.TarInfo("hello")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    blobs: dict[str, bytes] = {}
    diff = _blob(blobs, layer.getvalue())
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["COLOUR=blue"]},
        "rootfs": {"type": "layers", "diff_ids": [diff]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _descriptor(blobs, json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [_descriptor(blobs, layer.getvalue(), "application/vnd.oci.image.layer.v1.tar")],
    }
    listed = _descriptor(blobs, json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    index = {"schemaVersion": 2, "manifests": [{**listed, "annotations": annotations}]}
    files = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps(index).encode(),
        **{f"blobs/sha256/{digest.removeprefix('sha256:')}": data for digest, data in blobs.items()},
    }
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def _blob(blobs: dict[str, bytes], data: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    blobs[digest] = data
    return digest


def _descriptor(blobs: dict[str, bytes], data: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _blob(blobs, data), "size": len(data)}
