"""GPUs on the embedded engine: what stands in for the hooks of a container runtime, and what a specification lacks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_imagebuild.engines.embedded import EmbeddedEngine
from pytest_imagebuild.engines.protocol import SessionSpec
from pytest_imagebuild.engines.work import Work
from pytest_imagebuild.errors import EngineError

from .conftest import BASE, RUN, Bench, plain_labels

Specify = Callable[..., Bench]


@pytest.fixture
def specify(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Specify]:
    engines: list[EmbeddedEngine] = []

    def make(**edits: Any) -> Bench:
        folder = tmp_path / "cdi"
        folder.mkdir()
        device = {"name": "0", "containerEdits": edits}
        text = json.dumps({"cdiVersion": "0.6.0", "kind": "acme.com/gpu", "devices": [device]})
        (folder / "acme.json").write_text(text)
        monkeypatch.setenv("IMAGEBUILD_CDI_DIRS", str(folder))
        engine = EmbeddedEngine(run=RUN, cache_dir=cache_dir)
        engines.append(engine)
        return Bench(engine=engine, base=engine.import_base(BASE, engine.pin_base(BASE, print), plain_labels(), print))

    yield make
    for engine in engines:
        engine.close()


GPU = ("acme.com/gpu=0",)


def test_a_library_of_the_driver_is_found_by_the_names_that_programs_ask_for(tmp_path: Path, specify: Specify) -> None:
    # Any library will do; this one is no part of the image's own search path.
    source = next(Path(path) for path in Path("/proc/self/maps").read_text().split() if "libc.so.6" in path)
    (tmp_path / "libacme.so.1.5").write_bytes(source.read_bytes())
    (tmp_path / "libacme.so.1").symlink_to("libacme.so.1.5")
    box = specify(
        mounts=[{"hostPath": str(tmp_path / "libacme.so.1.5"), "containerPath": "/opt/acme/lib/libacme.so.1.5"}],
        hooks=[
            {"path": "/usr/bin/nvidia-cdi-hook", "args": ["nvidia-cdi-hook", *arguments]}
            for arguments in (
                ("create-symlinks", "--link", "libacme.so.1::/opt/acme/lib/libacme.so"),
                ("update-ldcache", "--folder", "/opt/acme/lib"),
            )
        ],
    )
    assert box.engine.gpus().gpus[0].lost == ()
    assert box.run("ls /opt/acme/lib; echo $LD_LIBRARY_PATH", gpus=GPU) == (
        "libacme.so\nlibacme.so.1\nlibacme.so.1.5\n/opt/acme/lib\n"
    )
    command = "env LD_LIBRARY_PATH=/mine:$LD_LIBRARY_PATH true; echo $LD_LIBRARY_PATH"
    assert box.run(command, gpus=GPU, environment={"LD_LIBRARY_PATH": "/mine"}) == "/mine:/opt/acme/lib\n"


def test_the_linkers_cache_of_the_image_stays_as_it_is(tmp_path: Path, specify: Specify) -> None:
    box = specify(
        hooks=[{"path": "/usr/bin/nvidia-ctk", "args": ["nvidia-ctk", "hook", "update-ldcache", "--folder", "/x"]}]
    )
    before = box.run("sha256sum /etc/ld.so.cache")
    assert box.run("sha256sum /etc/ld.so.cache", gpus=GPU) == before


def test_what_is_lost_is_told(specify: Specify) -> None:
    box = specify(hooks=[{"path": "/usr/bin/prepare", "args": ["prepare", "--all"]}])
    assert box.engine.gpus().gpus[0].lost == ("its hook prepare --all",)


def test_a_file_that_is_gone_is_told(specify: Specify, tmp_path: Path) -> None:
    box = specify(deviceNodes=[{"path": str(tmp_path / "gone")}])
    with pytest.raises(EngineError, match=f"a GPU needs {tmp_path / 'gone'}, which is not there"):
        box.run("true", gpus=GPU)


def test_a_folder_is_mounted_and_leaves_nothing_in_a_layer(tmp_path: Path, specify: Specify) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("here\n")
    box = specify(
        mounts=[
            {"hostPath": str(tmp_path / "tree"), "containerPath": "/srv/acme/tree", "options": ["ro"]},
            {"hostPath": str(tmp_path / "tree"), "containerPath": "/usr/share/acme", "options": ["ro"]},
        ]
    )
    before = box.run("ls -lR /srv /usr/share | sha256sum")
    work = Work(commands=("cat /srv/acme/tree/file /usr/share/acme/file",), gpus=GPU)
    built = box.engine.build(box.base, work, box.labels(), box.lines.append)
    assert box.lines[-2:] == ["here", "here"]
    assert box.run("ls -lR /srv /usr/share | sha256sum", on=built) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
def test_a_node_that_lies_outside_dev_works(tmp_path: Path, specify: Specify) -> None:
    node = tmp_path / "node"
    os.mknod(node, 0o600 | 0o020000, os.makedev(1, 5))
    try:
        with node.open("rb") as file:
            assert file.read(1) == b"\0"
    except PermissionError:
        pytest.skip("device nodes do not work here")
    box = specify(deviceNodes=[{"path": "/dev/acme/zero", "hostPath": str(node)}])
    assert box.run("head -c 3 /dev/acme/zero | od -An -c", gpus=GPU).split() == ["\\0"] * 3


def test_each_test_of_its_own_file_system_has_the_device(tmp_path: Path, specify: Specify) -> None:
    (tmp_path / "driver").write_text("version 1\n")
    box = specify(
        deviceNodes=[{"path": "/dev/acme0", "hostPath": "/dev/null"}],
        mounts=[{"hostPath": str(tmp_path / "driver"), "containerPath": "/opt/acme/driver", "options": ["ro"]}],
    )
    spec = SessionSpec(command=("/bin/sh", "-c", "test -c /dev/acme0 && cat /opt/acme/driver"), gpus=GPU, isolate=True)
    container = box.engine.start(box.base, spec)
    try:
        assert container.channel.receive(60) == b"version 1\n"
    finally:
        container.stop()
