"""What a container of the embedded engine sees of this machine, and what it cannot do to it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pytest_imagebuild.engines.embedded import EmbeddedEngine
from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.protocol import SessionSpec
from pytest_imagebuild.engines.work import Work
from pytest_imagebuild.errors import EngineError

from .conftest import RUN, plain_labels, printed


def said(embedded: EmbeddedEngine, layer: BuiltLayer, command: str, **spec: object) -> str:
    """Return what a session prints to its end, both outputs."""
    container = embedded.start(layer, SessionSpec(command=("sh", "-c", f"exec 2>&1; {command}"), **spec))  # type: ignore[arg-type]
    try:
        return printed(container)
    finally:
        container.stop()


def test_a_container_has_no_variable_of_this_machine(
    embedded: EmbeddedEngine, base: BuiltLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN_OF_THE_HOST", "secret")
    names = {line.partition("=")[0] for line in said(embedded, base, "env", environment={"MINE": "1"}).splitlines()}
    assert names == {"PATH", "HOME", "HOSTNAME", "PWD", "MINE"}
    assert "A_TOKEN_OF_THE_HOST" not in said(embedded, base, "cat /proc/1/environ /proc/self/environ | tr '\\0' '\\n'")


def test_a_container_has_no_file_of_this_machine(embedded: EmbeddedEngine, base: BuiltLayer, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    assert said(embedded, base, f"ls {tmp_path} {Path(__file__)} {sys.executable}").count("No such file") == 3
    mounts = said(embedded, base, "cut -d' ' -f5,10- /proc/self/mountinfo").splitlines()
    points = {line.split(" ")[0] for line in mounts}
    devices = {"null", "zero", "full", "random", "urandom", "tty", "pts", "mqueue"}
    files = {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}
    kernel = {point for point in points if point.startswith(("/proc", "/sys"))}
    assert points - kernel == {"/", "/dev", *(f"/dev/{name}" for name in devices), *files}


def test_processes_ipc_and_name_are_its_own(embedded: EmbeddedEngine, base: BuiltLayer) -> None:
    kinds = ("pid", "ipc", "uts", "mnt", "cgroup")
    inside = said(embedded, base, f"readlink {' '.join(f'/proc/self/ns/{kind}' for kind in kinds)}").split()
    assert not set(inside) & {os.readlink(f"/proc/self/ns/{kind}") for kind in kinds}  # noqa: PTH115
    assert os.uname().nodename not in said(embedded, base, "hostname; cat /etc/hostname")
    assert int(said(embedded, base, "ls -d /proc/[0-9]* | wc -l")) <= 6
    assert "must be root to change the host name" in said(embedded, base, "hostname other; true")


def test_the_command_line_of_a_container_tells_nothing(embedded: EmbeddedEngine, base: BuiltLayer) -> None:
    container = embedded.start(base, SessionSpec(command=("cat",), environment={"TOKEN": "a-secret-value"}))
    try:
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if readable(path)]
        assert any(b"bwrap" in line and b"cat" in line for line in lines)
        assert not any(b"a-secret-value" in line for line in lines)
    finally:
        container.stop()


def readable(path: Path) -> bool:
    try:
        return bool(path.read_bytes())
    except OSError:
        return False


@pytest.mark.parametrize(
    "command",
    [
        "mount -t tmpfs none /mnt",
        "mknod /dev/disk b 8 0 && head -c 1 /dev/disk",
        "mknod /disk b 254 0 && head -c 1 /disk",
        "echo 1 > /proc/sys/vm/overcommit_memory",
        "echo h > /proc/sysrq-trigger",
        "echo x > /sys/power/state",
        "chroot /proc/1/root/../../.. sh -c 'ls /proc/1/root/oldroot'",
        "unshare --mount sh -c 'umount -l /'",
        "nsenter --target 1 --mount ls /oldroot",
        "cat /dev/kmsg",
        "date -s 2001-01-01",
        "ip link add dummy0 type dummy",
        "sysctl -w kernel.hostname=x",
    ],
)
def test_root_in_a_container_is_not_root_of_this_machine(
    embedded: EmbeddedEngine, base: BuiltLayer, command: str
) -> None:
    assert said(embedded, base, f"{{ {command}; }} && echo it worked || echo it failed").endswith("it failed\n")


def test_what_a_container_writes_is_seen_by_no_other_and_is_gone_afterwards(
    embedded: EmbeddedEngine, base: BuiltLayer
) -> None:
    places = "/etc/mine /usr/bin/mine /tmp/mine /root/mine /mine /var/lib/mine /dev/shm/mine /run/mine"
    assert said(embedded, base, f"touch {places} && rm /etc/passwd && echo written") == "written\n"
    assert said(embedded, base, f"ls {places}; cat /etc/passwd").count("No such file") == 8
    assert "root:" in said(embedded, base, "cat /etc/passwd")
    assert not list((embedded._open().store.folder / "scratch").glob(f"{RUN}-*/[0-9]*"))


def test_set_user_id_programs_of_images_are_out_of_reach_of_other_users(embedded: EmbeddedEngine) -> None:
    assert (embedded._open().store.folder).stat().st_mode & 0o077 == 0


LINKS = {
    "/proc": "/proc in it is not a folder",
    "/dev": "/dev in it is not a folder",
    "/sys": "/sys in it is not a folder",
}


@pytest.mark.parametrize("path", LINKS)
def test_an_image_whose_mount_points_lead_elsewhere_is_not_run(
    embedded: EmbeddedEngine, base: BuiltLayer, tmp_path: Path, path: str
) -> None:
    """A link there would make bubblewrap mount, or create, at a place that the image chose."""
    target = tmp_path / "victim"
    layer = written_behind_the_back(embedded, base, path, f"/oldroot{target}")
    with pytest.raises(EngineError, match=f"a container of this image cannot be started: {LINKS[path]}"):
        embedded.run(layer, Work(commands=("true",)), print)
    assert not target.exists()


@pytest.mark.parametrize("name", ["hosts", "hostname", "resolv.conf"])
@pytest.mark.parametrize("prefix", ["", "/oldroot", "/../../../../../..", "/newroot/../oldroot"])
def test_a_link_in_etc_makes_no_file_on_this_machine(
    embedded: EmbeddedEngine, base: BuiltLayer, tmp_path: Path, name: str, prefix: str
) -> None:
    target = tmp_path / "victim"
    layer = written_behind_the_back(embedded, base, f"/etc/{name}", f"{prefix}{target}")
    assert embedded.run(layer, Work(commands=("echo up",)), print) == b"up\n"
    assert not target.exists()


def written_behind_the_back(embedded: EmbeddedEngine, base: BuiltLayer, path: str, target: str) -> BuiltLayer:
    """Return a layer that has a link where a container cannot put one."""
    store = embedded._open().store.folder
    layer = embedded.build(base, Work(commands=("mkdir /x",)), plain_labels(), print)
    import json

    from pytest_imagebuild.engines.embedded.survey import survey

    record_file = store / "records" / f"{layer.reference}.json"
    record = json.loads(record_file.read_text())
    tree = store / "trees" / record["trees"][-1]["id"]
    (tree / path.lstrip("/")).parent.mkdir(exist_ok=True)
    (tree / path.lstrip("/")).symlink_to(target)
    record["trees"][-1]["seal"] = survey(str(tree))[0]
    record_file.write_text(json.dumps(record))
    # This process trusts what it has built, so it forgets that.
    embedded._open().soundness._looks.clear()
    return layer


def test_kill_9_of_the_controller_leaves_no_process_no_mount_and_no_layer(
    embedded: EmbeddedEngine, base: BuiltLayer
) -> None:
    def left() -> list[str]:
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if readable(path)]
        return [line.decode() for line in lines if b"987654" in line]

    command = [sys.executable, "-m", "tests.engine.stubborn", str(embedded._cache_dir), base.labels.key]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            assert len(left()) >= 3
        finally:
            process.kill()
    deadline = time.monotonic() + 10
    while left():
        assert time.monotonic() < deadline, left()
        time.sleep(0.01)
    assert str(embedded._cache_dir) not in Path("/proc/self/mountinfo").read_text()
    groups = [path for path in Path("/sys/fs/cgroup").rglob(f"imagebuild-killed-{process.pid}-*") if path.is_dir()]
    assert embedded.find("never") is None
    assert embedded.sweep() >= 3
    assert not list((embedded._open().store.folder / "scratch").glob("killed-*"))
    assert groups
    assert not [path for path in groups if path.exists()]
    assert embedded.sweep() == 0


def test_a_thread_that_started_a_container_may_end(embedded: EmbeddedEngine, base: BuiltLayer) -> None:
    containers = []
    starter = threading.Thread(
        target=lambda: containers.append(embedded.start(base, SessionSpec(command=("cat",)))),
    )
    starter.start()
    starter.join()
    time.sleep(0.2)
    try:
        containers[0].channel.send(b"alive")
        assert containers[0].channel.receive(10) == b"alive"
    finally:
        containers[0].stop()


def test_a_container_that_bubblewrap_cannot_start_is_an_error_with_its_words(
    embedded: EmbeddedEngine, base: BuiltLayer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = embedded._cache_dir / "embedded" / "tried"
    assert note.exists()
    opened = embedded._open()
    refusing = tmp_path / "bwrap"
    refusing.write_text("#!/bin/sh\necho bwrap: No permissions to create a new namespace >&2\nexit 1\n")
    refusing.chmod(0o755)
    launch = opened._launch._replace(bwrap=str(refusing))
    # What works in containers has been made with the other one, if any test before has made it.
    monkeypatch.setattr(opened, "_workshop", None)
    monkeypatch.setattr(opened, "_launch", launch)
    with pytest.raises(EngineError, match=r"bubblewrap starts no container: bwrap: No permissions .*`imagebuild d"):
        embedded.start(base, SessionSpec(command=("cat",)))
    with pytest.raises(EngineError, match="bubblewrap starts no container"):
        embedded.run(base, Work(commands=("true",)), print)
    monkeypatch.undo()
    # The next run tries the machine anew.
    assert not note.exists()
    assert not list((embedded._open().store.folder / "scratch").glob(f"{RUN}-*/[0-9]*"))


def test_the_processes_of_a_container_are_bounded_soon_after_its_start(
    embedded: EmbeddedEngine, base: BuiltLayer
) -> None:
    command = ("sh", "-c", "sleep 60 & sleep 60 & read line; sh -c 'read line'")
    container = embedded.start(base, SessionSpec(command=command))
    try:
        deadline = time.monotonic() + 20
        while unbounded(int(container._process.pid or 0)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        # What begins later is in the group from its first instruction on.
        container.channel.send(b"go\n")
        time.sleep(0.2)
        assert unbounded(int(container._process.pid or 0)) == []
    finally:
        container.stop()


def unbounded(first: int) -> list[int]:
    """Return those of the processes that began with one which are in no group of the engine's."""
    from pytest_imagebuild.engines.embedded.bounds import _descendants

    found = [first, *_descendants(first)]
    return [pid for pid in found if "/imagebuild-" not in Path(f"/proc/{pid}/cgroup").read_text()]
