"""An image that one engine saves is the same image wherever it is loaded. `bench` runs over all adapters."""

from __future__ import annotations

import contextlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.layers import BasePin, BuiltLayer
from pytest_imagebuild.engines.protocol import Engine
from pytest_imagebuild.engines.work import ConfigChange, Work
from pytest_imagebuild.errors import EngineError

from .conftest import ADDRESSES, REAL, Bench, daemon, new_key, opened, plain_labels

LONG = "n" * 120
MAKE = (
    "mkdir -p /t/d /t/gone/deep /t/again && cd /t && echo a > a && ln a b && ln -s a c && ln -s '/nowhere/ü x' d/l",
    f"cd /t && mkfifo fifo && touch 'ü name' && chmod 4751 a && mkdir -m 1770 sticky && mkdir {LONG}",
    f"cd /t && touch {LONG}/{LONG}xyz gone/deep/file again/old .hidden && chmod 000 again/old",
    "cd /t && truncate -s 2M sparse && head -c 100000 /dev/urandom > random",
    "mkdir -m 500 /t/closed && touch /t/closed/file",
    "cd /t && chown 5:6 d 2>/dev/null; chown -h 7:8 c 2>/dev/null; true",
)
CHANGE = (
    "cd /t && rm -r gone b && rm -r again && mkdir again && echo new > again/new && echo more >> a && chmod 700 sticky",
    "rm -r /usr/share/doc && ln -s /t /usr/share/doc && rm /etc/issue && mv /t/d /t/moved && touch -d @86400 /t/moved",
)
LIST = r"""python3 - <<'END'
import os, stat
inodes = {}
for top in ("/t", "/usr/share/doc", "/etc", "/usr/local/bin"):
    found = [top] + [os.path.join(at, name) for at, folders, names in os.walk(top) for name in folders + names]
    for path in sorted(found):
        if path in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/mtab"):
            continue
        s = os.lstat(path)
        link = os.readlink(path) if stat.S_ISLNK(s.st_mode) else ""
        size = s.st_size if stat.S_ISREG(s.st_mode) else 0
        same = inodes.setdefault(s.st_ino, path)
        time = int(s.st_mtime) if path not in ("/etc",) else 0
        print(f"{path!a} {s.st_mode:o} {s.st_uid}:{s.st_gid} {size} {time} {link!a} {same!a}")
END
cat /t/a; sha256sum /t/random | cut -c1-64; test ! -e /etc/issue && echo gone"""


@pytest.fixture(params=REAL)
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Every adapter that runs containers, with a cache folder of its own, to load what another one saved."""
    with opened(request.param, tmp_path_factory.mktemp("other"), f"other-{new_key()}") as engine:
        yield engine


@pytest.fixture
def name() -> Iterator[str]:
    name = f"saved/{new_key()}:v1".lower()
    yield name
    for address in ADDRESSES:
        with contextlib.closing(daemon(address)) as client:
            if client.images.list(name):
                client.images.remove(name, force=True)


def two_layers(box: Bench) -> BuiltLayer:
    lower = box.build(*MAKE)
    change = ConfigChange(
        environment=(("GREETING", 'it\'s "me" $HOME'),),
        workdir="/t",
        command=("cat", "a"),
        entrypoint=("/bin/sh", "-c"),
    )
    work = Work(commands=CHANGE, config=change, environment={"TOKEN": "a-secret-value"})
    return box.engine.build(lower, work, box.labels(parent=lower.labels.key, step="the change"), box.lines.append)


def loaded(engine: Engine, archive: Path, name: str) -> Bench:
    """Return a bench on the image that an engine loaded."""
    assert engine.load(archive, "", print) == (name,)
    pin = engine.pin_base(name, print)
    assert pin.source == "local"
    return Bench(engine=engine, base=engine.import_base(name, pin, plain_labels(), print))


def document(archive: Path, path: str) -> Any:
    with tarfile.open(archive) as tar:
        member = tar.extractfile(path)
        assert member is not None
        return json.load(member)


def blob(archive: Path, descriptor: dict[str, Any]) -> Any:
    return document(archive, f"blobs/{descriptor['digest'].replace(':', '/')}")


def test_an_image_is_the_same_where_it_is_loaded(box: Bench, other: Engine, name: str, tmp_path: Path) -> None:
    layer = two_layers(box)
    archive = tmp_path / "image.tar"
    box.engine.save(layer, archive, name, print)
    there = loaded(other, archive, name)
    here, found = box.run(LIST, on=layer), there.run(LIST)
    assert found.splitlines() == here.splitlines()
    assert "/t/moved" in found
    assert "/t/again/old" not in found
    pin = other.pin_base(name, print)
    assert [one for one in other.layers().values() if one.reference == pin.digest] == [], "it is an image, no layer"
    asked = 'printf "%s|" "$GREETING"; pwd'
    assert there.run(asked) == box.run(asked, on=layer)


def test_an_archive_holds_neither_our_labels_nor_what_steps_were_lent(box: Bench, tmp_path: Path) -> None:
    layer = two_layers(box)
    box.engine.save(layer, tmp_path / "image.tar", "x:1", print)
    content = (tmp_path / "image.tar").read_bytes()
    assert [text for text in ("imagebuild.", layer.labels.key, "a-secret-value") if text.encode() in content] == []


def test_the_same_image_gives_the_same_bytes(bench: Bench, tmp_path: Path) -> None:
    layer = bench.build("true", config=ConfigChange(environment=(("A", "b"),)))
    for number in (1, 2):
        bench.engine.save(layer, tmp_path / f"{number}.tar", "same:1", print)
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()


def test_an_archive_is_an_oci_layout_and_what_docker_saves(bench: Bench, tmp_path: Path) -> None:
    lines: list[str] = []
    layer = bench.build("true", config=ConfigChange(command=("echo", "ü"), environment=(("A", "b"),)))
    archive = tmp_path / "image.tar"
    bench.engine.save(layer, archive, "team/app:1.0", lines.append)
    assert document(archive, "oci-layout") == {"imageLayoutVersion": "1.0.0"}
    (entry,) = document(archive, "index.json")["manifests"]
    (saved,) = document(archive, "manifest.json")
    assert entry["annotations"] == {
        "io.containerd.image.name": "docker.io/team/app:1.0",
        "org.opencontainers.image.ref.name": "1.0",
    }
    manifest = blob(archive, entry)
    config = blob(archive, manifest["config"])
    assert saved["RepoTags"] == ["team/app:1.0"]
    assert saved["Config"].rpartition("/")[2] == manifest["config"]["digest"].rpartition(":")[2]
    named = [descriptor["digest"] for descriptor in manifest["layers"]]
    assert config["rootfs"] == {"type": "layers", "diff_ids": named}
    assert [path.rpartition("/")[2] for path in saved["Layers"]] == [digest.rpartition(":")[2] for digest in named]
    assert config["config"]["Cmd"] == ["echo", "ü"]
    assert "A=b" in config["config"]["Env"]
    assert f"{config['os']}/{config['architecture']}" == bench.engine.capabilities().platform
    assert all(line.startswith("team/app:1.0: ") for line in lines)


def test_an_image_from_nothing_is_saved(box: Bench, tmp_path: Path) -> None:
    empty = box.engine.import_base("scratch", BasePin(digest="", source="scratch"), plain_labels(), print)
    box.engine.save(empty, tmp_path / "image.tar", "empty:1", print)
    (entry,) = document(tmp_path / "image.tar", "index.json")["manifests"]
    assert blob(tmp_path / "image.tar", entry)["config"]["size"] > 0


def test_an_archive_that_cannot_be_written_leaves_what_was_there(bench: Bench, tmp_path: Path) -> None:
    layer = bench.build("true", files=(FileEntry(path="/a", mode=0o644, data=b"a"),))
    archive = tmp_path / "there" / "image.tar"
    with pytest.raises(EngineError, match=r"the image archive .* cannot be written: No such file or directory\."):
        bench.engine.save(layer, archive, "x:1", print)
    archive.parent.mkdir()
    archive.write_bytes(b"old")

    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.engine.save(layer, archive, "x:1", stop)
    assert [path.name for path in archive.parent.iterdir()] == ["image.tar"]
    assert archive.read_bytes() == b"old"
