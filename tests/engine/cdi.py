"""A specification of devices that are harmless files, and a Docker engine of one's own that reads it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import docker
import pytest

__all__ = ["KIND", "Daemon", "daemon_with_cdi", "specify"]

KIND = "acme.com/gpu"
_START_SECONDS = 60
_STOP_SECONDS = 30


def specify(folder: Path) -> Path:
    """Write a specification of two devices, and the file that both mount; return the folder of specifications.

    The first works as /dev/null does, the second as /dev/full.
    """
    (folder / "driver.txt").write_text("version 1\n")
    specifications = folder / "cdi"
    specifications.mkdir()
    devices = [
        {
            "name": name,
            "annotations": {"imagebuild/gpu-type": kind},
            "containerEdits": {
                "deviceNodes": [{"path": f"/dev/acme{name}", "hostPath": source}],
                "env": [f"ACME_{name}={kind}"],
            },
        }
        for name, kind, source in (("0", "X1", "/dev/null"), ("1", "X2", "/dev/full"))
    ]
    shared = {
        "env": ["ACME_DRIVER=yes"],
        "mounts": [
            {
                "hostPath": str(folder / "driver.txt"),
                "containerPath": "/opt/acme/driver.txt",
                "options": ["ro", "nosuid", "nodev", "bind"],
            }
        ],
    }
    text = json.dumps({"cdiVersion": "0.6.0", "kind": KIND, "devices": devices, "containerEdits": shared})
    (specifications / "acme.json").write_text(text)
    return specifications


@dataclass(frozen=True, slots=True)
class Daemon:
    """A Docker engine: the address of its socket, and what it wrote."""

    address: str
    log: Path


@contextlib.contextmanager
def daemon_with_cdi(specifications: Path, like: str, options: Sequence[str] = ()) -> Iterator[Daemon]:
    """Start a Docker engine that reads specifications in a folder: the program that serves the socket `like`.

    Skips the test where that is no process of this machine, or one without CDI.
    """
    program, path = _program(like)
    # Unix sockets have short names.
    home = Path(tempfile.mkdtemp(prefix="cdi-"))
    config = {"features": {"cdi": True}, "cdi-spec-dirs": [str(specifications)]}
    (home / "daemon.json").write_text(json.dumps(config))
    address = f"unix://{home}/docker.sock"
    command = [
        *(program, "--config-file", str(home / "daemon.json"), "--host", address),
        *("--data-root", str(home / "data"), "--exec-root", str(home / "exec"), "--pidfile", str(home / "docker.pid")),
        *("--bridge", "none", "--iptables=false", "--ip6tables=false", "--shutdown-timeout", "5", *options),
    ]
    log = home / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait_for(process, address, log)
        yield Daemon(address, log)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        _unmount(home)
        shutil.rmtree(home, ignore_errors=True)


def _program(address: str) -> tuple[str, str]:
    """Return the program that serves a Unix socket, and where it looks for others."""
    parts = urlsplit(address)
    if parts.scheme != "unix" or os.geteuid() != 0:
        pytest.skip("an engine of one's own takes root and a Docker engine on this machine")
    with socket.socket(socket.AF_UNIX) as knocking:
        knocking.connect(parts.path)
        pid, _, _ = struct.unpack("3i", knocking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        program = str(Path(f"/proc/{pid}/exe").readlink())
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        pytest.skip(f"the Docker engine at {address} runs elsewhere")
    if not Path(program).name.startswith("dockerd"):
        pytest.skip(f"what serves {address} is {program}, not dockerd")
    paths = [value.removeprefix(b"PATH=").decode() for value in variables if value.startswith(b"PATH=")]
    return program, paths[0] if paths else os.defpath


def _wait_for(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while not _answers(address):
        if process.poll() is not None or time.monotonic() > until:
            end = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            pytest.fail(f"the Docker engine does not start:\n{end}", pytrace=False)
        time.sleep(0.1)
    with docker.APIClient(address) as client:
        if not client.info().get("CDISpecDirs"):
            pytest.skip(f"Docker {client.version()['Version']} has no CDI")


def _answers(address: str) -> bool:
    with socket.socket(socket.AF_UNIX) as knocking, contextlib.suppress(OSError):
        knocking.settimeout(10)
        knocking.connect(urlsplit(address).path)
        knocking.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        return b" 200 " in knocking.recv(64)
    return False


def _unmount(home: Path) -> None:
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in reversed([each for each in mounts if each.startswith(f"{home}/")]):
        subprocess.run(["umount", "-l", mount], check=False, capture_output=True, timeout=60)
