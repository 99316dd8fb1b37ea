"""A Docker daemon of a test's own, which may be stopped, killed and started, on a small disk that can be filled."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import final

from observing import wait_until
from small_disk import MEBIBYTE, SmallDisk

__all__ = ["OwnDocker"]

SECONDS = 60


@final
class OwnDocker:
    """A daemon with a containerd of its own, which runs on when the daemon is stopped, as on a usual machine.

    Its containers have no network, so it changes no packet rule of others.
    """

    def __init__(self, *, mebibytes: int) -> None:
        # The path of a socket is limited to 108 bytes, so it does not lie in the folder of the test.
        self._folder = Path(tempfile.mkdtemp(prefix="docker"))
        self._disk = self._folder / "disk"
        self._mebibytes = mebibytes
        self._socket = self._folder / "docker.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self._containerd: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """What DOCKER_HOST has to be."""
        return f"unix://{self._socket}"

    def __enter__(self) -> OwnDocker:
        self._small = SmallDisk(self._disk, mebibytes=self._mebibytes)
        (self._folder / "daemon.json").write_text("{}")
        (self._folder / "containerd.toml").write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
        try:
            self._containerd = self._begin(
                *("containerd", "--config", self._folder / "containerd.toml", "--root", self._disk / "containerd"),
                *("--state", self._folder / "state", "--address", self._folder / "containerd.sock"),
            )
            wait_until("containerd to listen", (self._folder / "containerd.sock").exists, timeout=SECONDS)
            self.start()
        except BaseException:
            self._clear()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            self._clear()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        registry = os.environ["IMAGEBUILD_TEST_REGISTRY"]
        self._process = self._begin(
            *("dockerd", "--config-file", self._folder / "daemon.json", "--host", self.address),
            *("--data-root", self._disk / "data", "--exec-root", self._folder / "exec"),
            *("--containerd", self._folder / "containerd.sock", "--pidfile", self._folder / "pid"),
            *("--bridge", "none", "--iptables=false", "--ip6tables=false", "--shutdown-timeout", "2"),
            *("--registry-mirror", f"http://{registry}", "--insecure-registry", registry),
        )
        wait_until("the daemon to answer", self._answers, timeout=SECONDS)

    def stop(self) -> None:
        """Stop it as the system does: it stops its containers."""
        process, self._process = self._process, None
        _end(process, signal.SIGTERM)

    def kill(self) -> None:
        """End it with SIGKILL: its containers run on."""
        process, self._process = self._process, None
        _end(process, signal.SIGKILL)

    @contextlib.contextmanager
    def filled(self, *, but: int) -> Iterator[None]:
        """Leave `but` MiB on its disk meanwhile."""
        with self._small.filled(but=but * MEBIBYTE):
            yield

    def processes(self) -> list[int]:
        """Return the ids of the processes in its containers, and of what looks after these."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if b"containerd-shim" in (words := (folder / "cmdline").read_bytes()) and self._is_ours(words):
                    children = (folder / "task" / folder.name / "children").read_text().split()
                    found += [int(folder.name), *map(int, children)]
        return found

    def _is_ours(self, words: bytes) -> bool:
        return os.fsencode(f"{self._folder}/") in words

    def _begin(self, *command: str | Path) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _answers(self) -> bool:
        log = (self._folder / "log").read_text(errors="replace")
        assert self._process is not None
        assert self._process.poll() is None, f"the daemon ended:\n{log[-4000:]}"
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(10)
            asking.connect(str(self._socket))
            asking.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in asking.recv(64)
        return False

    def _clear(self) -> None:
        _end(self._process, signal.SIGKILL)
        _end(self._containerd, signal.SIGTERM)
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        wait_until("its processes to end", lambda: not self.processes(), timeout=20)
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in reversed([mount for mount in mounts if mount.startswith(f"{self._folder}/")]):
            subprocess.run(["umount", "--lazy", mount], check=True)
        shutil.rmtree(self._folder)


def _end(process: subprocess.Popen[bytes] | None, number: signal.Signals) -> None:
    if process is not None:
        process.send_signal(number)
        try:
            process.wait(SECONDS)
        finally:
            process.kill()
            process.wait(SECONDS)
