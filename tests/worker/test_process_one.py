"""The supervisor as process 1 of a process namespace, as it is in a container."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from live_worker import Makes, gone

from pytest_imagebuild.session.messages import Output
from pytest_imagebuild.session.session import WorkerDied

NAMESPACE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")


def _can_unshare() -> bool:
    try:
        return subprocess.run([*NAMESPACE, "true"], capture_output=True, timeout=20, check=False).returncode == 0
    except OSError:
        return False


def _command(process: Path) -> list[str]:
    try:
        return (process / "cmdline").read_text().split("\0")[:-1]
    except OSError:
        return []


pytestmark = pytest.mark.skipif(not _can_unshare(), reason="no process namespace can be made here")


def test_it_reaps_orphans(worker: Makes) -> None:
    live = worker(
        """
        import os, subprocess, time
        from pathlib import Path

        def test_it() -> None:
            assert os.getppid() == 1
            subprocess.run(["sh", "-c", "sleep 0.1 & sleep 0.1 & exit 0"])
            end = time.monotonic() + 10
            while time.monotonic() < end:
                if {path.name for path in Path("/proc").iterdir() if path.name.isdigit()} == {"1", str(os.getpid())}:
                    return
                time.sleep(0.02)
            assert False, "zombies are left"
        """,
        *NAMESPACE,
    ).start()

    assert live.run("test_it.py::test_it").failure == ""
    assert live.finish() == []


@pytest.mark.parametrize("then", ["time.sleep(600)", "os._exit(5)"])
def test_it_leaves_nothing_behind_not_even_a_daemon(worker: Makes, then: Any) -> None:
    live = worker(
        f"""
        import os, subprocess, time

        def test_it() -> None:
            daemon = subprocess.Popen(["sleep", "612.25"], start_new_session=True)
            while "612.25" not in open(f"/proc/{{daemon.pid}}/cmdline").read():
                time.sleep(0.01)
            print("ready", flush=True)
            {then}
        """,
        *NAMESPACE,
    ).start(options={"capture": "no"})
    messages = live.session.run("test_it.py::test_it", None, 0, 20)
    assert isinstance(next(messages), Output)
    pids = [
        path.name for path in Path("/proc").iterdir() if path.name.isdigit() and _command(path) == ["sleep", "612.25"]
    ]
    live.container.channel.close()

    assert pids or "_exit" in then
    assert all(gone(int(pid)) for pid in pids)
    assert live.container.process.wait(20) in (5, 137)


def test_it_tells_of_signals_that_would_be_ignored(worker: Makes) -> None:
    live = worker("import os, signal\ndef test_it(): os.kill(os.getpid(), signal.SIGTERM)", *NAMESPACE).start()

    with pytest.raises(WorkerDied, match="killed by SIGTERM"):
        live.run("test_it.py::test_it")
