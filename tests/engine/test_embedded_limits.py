"""What the embedded engine holds containers to: by control groups as root, by resource limits as anybody."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pytest_imagebuild.engines.embedded import cgroups, limits
from pytest_imagebuild.engines.embedded.cgroups import Cgroup, sweep
from pytest_imagebuild.engines.embedded.limits import Rlimits, confine, rlimits, unenforced

MIB = 1024 * 1024
SECONDS = 30
EAT = "held = []\nfor _ in range(40): held.append(bytearray(10 * 1024 * 1024))\nprint('ate all')"
COUNT = """
import os, time
forked = 0
try:
    while forked < 40:
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
        forked += 1
except BlockingIOError:
    pass
print(forked, flush=True)
time.sleep(20)
"""


def unified() -> Path | None:
    """Return where the groups of version 2 are mounted."""
    lines = [line.split(" ") for line in Path("/proc/mounts").read_text().splitlines()]
    return next((Path(point) for _, point, kind, *_ in lines if kind == "cgroup2" and os.access(point, os.W_OK)), None)


def name() -> str:
    return f"test-{uuid.uuid4().hex}"


@contextlib.contextmanager
def group(*, memory: int | None = None, cpu: float | None = None, pids: int | None = None) -> Iterator[Cgroup]:
    found = Cgroup.create(name(), memory=memory, cpu=cpu, pids=pids)
    if found is None:
        pytest.skip("this user can make no control group on this machine")
    try:
        yield found
    finally:
        found.kill()
        found.remove()


def python(source: str) -> list[str]:
    return [sys.executable, "-c", source]


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


@contextlib.contextmanager
def running(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    # In a session of its own, so that its children can be killed with it.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=SECONDS)


def test_a_process_that_needs_more_memory_than_its_group_has_is_killed_and_the_group_knows() -> None:
    with group(memory=100 * MIB) as held:
        assert held.holds == {"memory"}
        assert not held.out_of_memory()
        ended = run(held.enter(python(EAT)))
        assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "")
        assert held.out_of_memory()


def test_a_process_that_is_killed_otherwise_is_not_out_of_memory() -> None:
    with group(memory=100 * MIB) as held:
        ended = run(held.enter(python("import os; os.kill(os.getpid(), 9)")))
        assert ended.returncode == -signal.SIGKILL
        assert not held.out_of_memory()


def test_a_group_has_the_share_of_the_processors_that_was_asked_for() -> None:
    busy = "import time\nstart = time.time()\nwhile time.process_time() < 0.4: pass\nprint(time.time() - start)"
    with group(cpu=0.2) as held:
        # The first bit of time comes at once, the rest at a fifth of the speed.
        assert float(run(held.enter(python(busy))).stdout) > 1.2


def test_a_fork_bomb_is_bounded_and_killed() -> None:
    with group(pids=10) as held, running(held.enter(python(COUNT))) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == 9
        held.kill()
        assert process.wait(SECONDS) == -signal.SIGKILL
        # Its children had the other end of the pipe.
        assert process.stdout.read() == ""


def test_a_removed_group_leaves_no_folder() -> None:
    asked = name()
    with group(memory=100 * MIB, pids=10):
        pass
    found = Cgroup.create(asked, memory=100 * MIB)
    if found is not None:
        assert list(Path("/sys/fs/cgroup").rglob(f"*{asked}"))
        found.remove()
    assert list(Path("/sys/fs/cgroup").rglob(f"*{asked}")) == []


def test_a_group_that_cannot_be_entered_does_not_run_the_command_without_limits() -> None:
    with group(pids=10) as held:
        held.remove()
        ended = run(held.enter(["echo", "unlimited"]))
        assert (ended.returncode, ended.stdout) == (126, "")


def test_a_command_gets_its_arguments_as_they_are() -> None:
    arguments = ["printf", "%s|", "two words", "$HOME", "", "*", "'"]
    expected = "two words|$HOME||*|'|"
    with group(pids=20, cpu=1.0) as held:
        assert run(held.enter(arguments)).stdout == expected
    assert run(Rlimits(memory=500 * MIB).enter(arguments)).stdout == expected


def test_the_groups_of_the_dead_are_swept_with_their_processes_and_those_of_the_living_stay() -> None:
    with group(pids=10) as living, running(living.enter(["sleep", "20"])) as kept:
        dead = Cgroup.create(asked := name(), pids=10, memory=100 * MIB)
        assert dead is not None
        with running(dead.enter(["sleep", "20"])) as process:
            time.sleep(0.2)
            assert sweep(lambda found: found == asked) == 1
            assert process.wait(SECONDS) == -signal.SIGKILL
        assert kept.poll() is None
    assert list(Path("/sys/fs/cgroup").rglob(f"*{asked}")) == []


def test_a_group_of_version_2_is_entered_killed_at_once_and_removed() -> None:
    top = unified()
    if top is None:
        pytest.skip("no hierarchy of version 2 that this user may write to")
    folder = top / f"imagebuild-{name()}"
    folder.mkdir()
    held = Cgroup({folder: frozenset({"pids"})})
    with running(held.enter(["sh", "-c", "sleep 20 & echo started; wait"])) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        assert len((folder / "cgroup.procs").read_text().split()) == 2
        held.kill()
        assert process.wait(SECONDS) == -signal.SIGKILL
    held.remove()
    assert not folder.exists()


def test_resource_limits_turn_too_much_memory_into_an_error_of_the_process() -> None:
    ended = run(rlimits(memory=100 * MIB).enter(python(EAT)))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.endswith("MemoryError\n")


def test_resource_limits_can_be_set_from_outside_too() -> None:
    assert Rlimits(memory=5, processes=6).values() == {resource.RLIMIT_DATA: 5, resource.RLIMIT_NPROC: 6}
    assert Rlimits().enter(["true"]) == ["true"]


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_the_number_of_processes_is_limited_whatever_the_shell(shell: str) -> None:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"no {shell} on this machine")
    command = Rlimits(memory=100 * MIB, processes=4321).enter(["cat", "/proc/self/limits"])
    assert command[0] == "/bin/sh"
    shown = run([path, *(["sh"] if shell == "busybox" else []), *command[1:]]).stdout
    found = {line[:26].strip(): line[26:].split()[0] for line in shown.splitlines()}
    assert found["Max processes"] == "4321"
    assert found["Max data size"] == str(100 * MIB)


def test_what_a_group_holds_is_not_held_a_second_time() -> None:
    held = confine(name(), memory=100 * MIB, pids=50)
    try:
        if held.cgroup is None:
            assert held.rlimits.memory == 100 * MIB
        else:
            assert held.rlimits == Rlimits()
            assert unenforced() == {}
    finally:
        held.remove()


def test_an_ordinary_user_is_told_what_cannot_be_held(as_nobody: str) -> None:
    source = f"""
import os, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.path.insert(0, {as_nobody!r})
from pytest_imagebuild.engines.embedded.limits import confine, unenforced
import subprocess
for each in sorted(unenforced().items()): print(*each, sep=": ")
held = confine("test", memory=100 << 20, cpu=1.0, pids=10)
print(held.cgroup)
print(subprocess.run(held.enter([sys.executable, "-c", {EAT!r}]), stderr=subprocess.PIPE).stderr[-12:].strip().decode())
print(subprocess.run(held.enter([sys.executable, "-c", {COUNT.replace("20)", "0.1)")!r}]),
      stdout=subprocess.PIPE).stdout.decode().strip())
"""
    ended = run([shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable, "-c", source])
    assert ended.stderr == ""
    cpu, memory, cgroup, error, forked = ended.stdout.splitlines()
    assert cpu.startswith("cpu: A container may use every core: ")
    assert memory.startswith("memory: Each process of a container may use as much: ")
    assert (cgroup, error) == ("None", "MemoryError")
    assert int(forked) < 15


@pytest.fixture
def as_nobody(tmp_path: Path) -> Iterator[str]:
    """Give a folder with this package that any user can read."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "pytest_imagebuild", "engines", "embedded")
        package.mkdir(parents=True)
        # These two need nothing else of the package, nor what that depends on, which others may be unable to read.
        for module in (cgroups, limits):
            shutil.copy(str(module.__file__), package)
        Path(folder).chmod(0o755)
        yield folder
