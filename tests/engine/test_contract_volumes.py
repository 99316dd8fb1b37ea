"""What every engine promises of volumes: they outlive containers, are in no layer, and go when they should."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.protocol import Container, Engine, SessionSpec
from pytest_imagebuild.engines.volumes import VolumeMount
from pytest_imagebuild.engines.work import CommandFailed
from pytest_imagebuild.errors import EngineError

from .conftest import ADDRESSES, BASE, EMBEDDED, REAL, RUN, Bench, Sessions, daemon, opened, plain_labels, printed

SECONDS = 60
MEBIBYTE = 1024 * 1024


def new_name() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def name(engine: Engine) -> Iterator[str]:
    """The name of a volume that is there, on every engine."""
    name = new_name()
    engine.make_volume(name)
    yield name
    engine.remove_volume(name)


@pytest.fixture
def volume(real: Engine) -> Iterator[str]:
    """The name of a volume that is there, on an engine that runs containers."""
    name = new_name()
    real.make_volume(name)
    yield name
    removed(real, name)


@pytest.fixture
def ephemeral(real: Engine) -> str:
    name = new_name()
    real.make_volume(name, ephemeral=True)
    return name


@pytest.fixture
def start(sessions: Sessions) -> Callable[..., Container]:
    """Start sessions that run a shell script."""

    def start(script: str, *volumes: VolumeMount, on: BuiltLayer | None = None, isolate: bool = False) -> Container:
        spec = SessionSpec(command=("/bin/sh", "-c", f"exec 2>&1\n{script}"), volumes=volumes, isolate=isolate)
        return sessions(spec, on=on)

    return start


def mount(name: str, path: str = "/data", *, read_only: bool = False, ephemeral: bool = False) -> VolumeMount:
    return VolumeMount(name=name, path=path, read_only=read_only, ephemeral=ephemeral)


def listed(engine: Engine) -> list[str]:
    return [volume.name for volume in engine.volumes()]


def removed(engine: Engine, name: str) -> int:
    """Remove a volume; an engine may still be busy with the removal of a container."""
    until = time.monotonic() + 20
    while (freed := engine.remove_volume(name)) is None and time.monotonic() < until:
        time.sleep(0.05)
    assert freed is not None
    return freed


# Every engine --------------------------------------------------------------------------------------------------------


def test_a_named_volume_is_there_until_it_is_removed(engine: Engine) -> None:
    name = new_name()
    assert not engine.has_volume(name)
    engine.make_volume(name)
    engine.make_volume(name)
    assert engine.has_volume(name)
    assert listed(engine).count(name) == 1
    found = next(volume for volume in engine.volumes() if volume.name == name)
    assert (found.size, found.in_use) == (0, False)
    assert found.created == pytest.approx(time.time(), abs=120)
    assert engine.remove_volume(name) == 0
    assert not engine.has_volume(name)
    assert name not in listed(engine)
    assert engine.remove_volume(name) == 0, "it is gone already"


@pytest.mark.parametrize("name", ["...", ".lock", "-", "_", "A.b_c-9", "x" * 64])
def test_every_name_that_a_user_may_choose_is_one(engine: Engine, name: str) -> None:
    engine.make_volume(name)
    try:
        assert name in listed(engine)
    finally:
        engine.remove_volume(name)
    assert name not in listed(engine)


def test_nothing_else_removes_a_named_volume(engine: Engine, name: str) -> None:
    engine.sweep()
    for remnant in engine.remnants():
        assert name not in remnant.name
    engine.drop("Run-7")
    assert engine.has_volume(name)
    assert name not in {layer.built.reference for layer in engine.stored()}


def test_an_ephemeral_volume_is_not_listed_and_has_a_name_of_its_own(engine: Engine, name: str) -> None:
    engine.make_volume(name, ephemeral=True)
    engine.make_volume("1", ephemeral=True)
    engine.make_volume("1", ephemeral=True)
    assert listed(engine).count(name) == 1
    assert not engine.has_volume("1")


def test_a_step_with_a_volume_that_is_not_there_is_refused(bench: Bench) -> None:
    name = new_name()
    with pytest.raises(EngineError) as caught:
        bench.run("true", volumes=(mount(name),))
    assert str(caught.value) == (
        f"the volume '{name}' for /data is not there: something removed it. Make it again with "
        f"`imagebuild volume create {name}`"
    )
    with pytest.raises(EngineError, match="the ephemeral volume for /data was not made by this process, or is gone"):
        bench.run("true", volumes=(mount(name, ephemeral=True),))
    assert not bench.engine.has_volume(name), "and it was not made"


# Engines that run containers -----------------------------------------------------------------------------------------


def build(box: Bench, *commands: str, volumes: tuple[VolumeMount, ...], on: BuiltLayer | None = None) -> BuiltLayer:
    from pytest_imagebuild.engines.work import Work

    return box.engine.build(on or box.base, Work(commands=commands, volumes=volumes), box.labels(), print)


def test_what_a_step_writes_later_steps_and_sessions_read(
    box: Bench, volume: str, start: Callable[..., Container]
) -> None:
    build(box, "echo one > /data/text", "echo two >> /data/text", volumes=(mount(volume),))
    assert box.run("cat /other/text", volumes=(mount(volume, "/other"),)) == "one\ntwo\n"
    assert printed(start("cat /data/text; echo three >> /data/text", mount(volume))) == "one\ntwo\n"
    assert box.run("tail -n 1 /data/text", volumes=(mount(volume),)) == "three\n"


def test_what_is_in_a_volume_is_not_in_the_layer_which_has_an_empty_folder_there(box: Bench, volume: str) -> None:
    layer = build(
        box, "echo x > /deep/er/text; chmod 700 /deep/er; echo y > /kept", volumes=(mount(volume, "/deep/er"),)
    )
    look = "find /deep -exec stat -c '%n %F %a %u:%g' {} +; cat /kept"
    assert box.run(look, on=layer).splitlines() == [
        "/deep directory 755 0:0",
        "/deep/er directory 755 0:0",
        "y",
    ]


def test_a_volume_hides_what_the_image_has_and_leaves_it_as_it_is(box: Bench, volume: str) -> None:
    below = box.build("mkdir -m 711 /data; echo image > /data/own")
    layer = build(box, "ls -A /data > /seen; echo volume > /data/own", volumes=(mount(volume),), on=below)
    assert box.run("cat /seen /data/own; stat -c %a /data", on=layer) == "image\n711\n"
    assert box.run("cat /data/own", on=layer, volumes=(mount(volume),)) == "volume\n"


def test_a_path_through_a_link_of_the_image_leads_inside(box: Bench, volume: str) -> None:
    below = box.build("mkdir -p /real/place; ln -s /real /link; ln -s /link/place /linked")
    build(box, "echo x > /linked/text", volumes=(mount(volume, "/linked"),), on=below)
    assert box.run("cat /real/place/text", on=below, volumes=(mount(volume, "/link/place"),)) == "x\n"


def test_a_volume_cannot_be_mounted_on_a_file(box: Bench, volume: str) -> None:
    with pytest.raises(EngineError):
        box.run("true", volumes=(mount(volume, "/etc/passwd"),))


def test_a_read_only_volume_takes_nothing(box: Bench, volume: str, start: Callable[..., Container]) -> None:
    build(box, "echo x > /data/text", volumes=(mount(volume),))
    with pytest.raises(CommandFailed) as caught:
        build(box, "cat /data/text; echo y > /data/text", volumes=(mount(volume, read_only=True),))
    assert caught.value.output.startswith("x\n")
    assert "Read-only file system" in caught.value.output
    said = printed(start("rm /data/text; mount -o remount,rw /data; cat /data/text", mount(volume, read_only=True)))
    assert "Read-only file system" in said
    assert said.endswith("x\n")


def test_a_failed_step_leaves_what_it_wrote(box: Bench, volume: str) -> None:
    with pytest.raises(CommandFailed):
        build(box, "echo x > /data/text; exit 3", volumes=(mount(volume),))
    assert box.run("cat /data/text", volumes=(mount(volume),)) == "x\n"


def test_several_volumes_are_mounted_at_once(box: Bench, volume: str, ephemeral: str) -> None:
    both = (mount(volume, "/a"), mount(ephemeral, "/b", ephemeral=True))
    build(box, "echo a > /a/text; echo b > /b/text", volumes=both)
    swapped = (mount(volume, "/b"), mount(ephemeral, "/a", ephemeral=True))
    assert box.run("cat /a/text /b/text", volumes=swapped) == "b\na\n"


def test_two_containers_share_a_volume_while_they_run(volume: str, start: Callable[..., Container]) -> None:
    one = start("cat > /data/said; echo written", mount(volume))
    other = start("while ! grep -q hello /data/said 2>/dev/null; do sleep 0.05; done; echo seen", mount(volume))
    one.channel.send(b"hello\n")
    assert other.channel.receive(SECONDS) == b"seen\n"


def test_a_volume_that_a_container_has_is_in_use_and_stays_until_that_ends(
    real: Engine, volume: str, start: Callable[..., Container]
) -> None:
    container = start(f"head -c {MEBIBYTE} /dev/urandom > /data/filled; sync; echo ready; cat", mount(volume))
    assert container.channel.receive(SECONDS) == b"ready\n"
    found = next(one for one in real.volumes() if one.name == volume)
    assert found.in_use
    assert found.size == pytest.approx(MEBIBYTE, rel=0.05)
    assert real.remove_volume(volume) is None
    assert real.has_volume(volume)
    container.stop()
    assert removed(real, volume) == pytest.approx(MEBIBYTE, rel=0.05)
    assert not real.has_volume(volume)


def test_files_of_any_owner_and_mode_are_removed(box: Bench, volume: str) -> None:
    build(
        box,
        "mkdir -p /data/a/b; echo x > /data/a/b/c; chown -R 1234:1234 /data/a; chmod -R 0 /data/a; chmod 0 /data",
        volumes=(mount(volume),),
    )
    assert box.run("cat /data/a/b/c", volumes=(mount(volume),)) == "x\n"
    removed(box.engine, volume)
    box.engine.make_volume(volume)
    assert box.run("ls -A /data; stat -c %a /data", volumes=(mount(volume),)) == "755\n"


@pytest.fixture(params=REAL)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ephemerals(kind: str, cache_dir: Path, run: str) -> list[str]:
    """Return what is there of the ephemeral volumes of a run, seen from behind the engine."""
    if kind == EMBEDDED:
        return [str(path) for path in (cache_dir / "embedded").rglob(f"scratch/{run}-*/volume-*")]
    found = daemon(kind).api.volumes(filters={"name": f"imagebuild-ephemeral-{run}-"})["Volumes"] or []
    return [volume["Name"] for volume in found]


def test_an_ephemeral_volume_goes_with_its_process(kind: str, cache_dir: Path) -> None:
    run = f"{RUN}-gone"
    with opened(kind, cache_dir, run) as engine:
        layer = engine.import_base(BASE, engine.pin_base(BASE, print), plain_labels(), print)
        engine.make_volume("1", ephemeral=True)
        volume = mount("1", ephemeral=True)
        container = engine.start(layer, SessionSpec(command=("sh", "-c", "echo x > /data/x; cat"), volumes=(volume,)))
        container.channel.send(b"still here\n")
        assert container.channel.receive(SECONDS) == b"still here\n"
        assert len(ephemerals(kind, cache_dir, run)) == 1
        engine.sweep()
        assert len(ephemerals(kind, cache_dir, run)) == 1, "its process lives"
    assert ephemerals(kind, cache_dir, run) == []


HOLD = """
import sys, time
from pathlib import Path
from pytest_imagebuild.engines.layers import LayerLabels
from pytest_imagebuild.engines.protocol import SessionSpec
from pytest_imagebuild.engines.volumes import VolumeMount
kind, cache, base, run, named = sys.argv[1:]
if kind == "embedded":
    from pytest_imagebuild.engines.embedded import EmbeddedEngine as Engine
else:
    from pytest_imagebuild.engines.docker import DockerEngine as Engine
engine = Engine(run=run, cache_dir=Path(cache))
labels = LayerLabels(key=f"{run}-held", parent="", generation="", run=run)
layer = engine.import_base(base, engine.pin_base(base, lambda line: None), labels, lambda line: None)
engine.make_volume("1", ephemeral=True)
engine.make_volume("2", ephemeral=True)
engine.make_volume(named)
volumes = (VolumeMount(name="1", path="/a", ephemeral=True), VolumeMount(name=named, path="/b"))
container = engine.start(layer, SessionSpec(command=("sh", "-c", "echo x | tee /a/x /b/x; cat"), volumes=volumes))
assert container.channel.receive(60) == b"x\\n"
print("ready", flush=True)
time.sleep(600)
"""


def test_a_killed_process_leaves_its_named_volumes_and_a_sweep_removes_its_ephemeral_ones(
    kind: str, cache_dir: Path
) -> None:
    run, named = f"{RUN}-killed", new_name()
    environment = {**os.environ, **({"DOCKER_HOST": ADDRESSES[kind]} if ADDRESSES.get(kind) else {})}
    command = [sys.executable, "-c", HOLD, kind, str(cache_dir), BASE, run, named]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            assert len(ephemerals(kind, cache_dir, run)) == 2
        finally:
            process.kill()
    with opened(kind, cache_dir, run) as engine:
        until = time.monotonic() + 20
        # The daemon removes a container whose input closed; until then its volume is in use.
        while (engine.sweep() or ephemerals(kind, cache_dir, run)) and time.monotonic() < until:
            time.sleep(0.05)
        assert ephemerals(kind, cache_dir, run) == []
        assert engine.has_volume(named)
        assert removed(engine, named) > 0
