"""Service containers: what a host test talks to.

A service has a network of its own, so that two of them may listen on one port. A port of it is reached through a socket
on this machine: `Forwarder` joins each connection with one that is made inside.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence

from pytest_imagebuild.engines.configuration import workdir_of
from pytest_imagebuild.engines.embedded import enter
from pytest_imagebuild.engines.embedded.bwrap import CAPABILITY_NUMBERS
from pytest_imagebuild.engines.embedded.config import command_of, environment_of
from pytest_imagebuild.engines.embedded.identity import Identity
from pytest_imagebuild.engines.embedded.process import ContainerProcess, Launch
from pytest_imagebuild.engines.embedded.rooms import Room
from pytest_imagebuild.engines.embedded.wait_target import WaitTarget
from pytest_imagebuild.engines.services import ExecResult, ServiceSpec, check_published, ended_error
from pytest_imagebuild.errors import EngineError

__all__ = ["ServiceContainer", "start_service"]

_CHUNK = 64 * 1024
_EXEC_SECONDS = 600


def start_service(
    launch: Launch,
    room: Room,
    spec: ServiceSpec,
    *,
    identity: Identity,
    ended: Callable[[ServiceContainer], None],
) -> ServiceContainer:
    """Start a container that runs `spec.command`, else what the image itself runs."""
    command = spec.command or command_of(room.record.config)
    if not command:
        raise EngineError("the image says no command to run: give `command`")
    sandbox = room.sandbox(variables=spec.environment, network="none", identity=identity)
    log = room.folder / "output"
    with log.open("wb") as file:
        process = launch.start(
            sandbox, command, guarded=True, output=file, keyboard=subprocess.DEVNULL, confinement=room.confine()
        )
    return ServiceContainer(launch, room, process, spec, identity=identity, ended=ended)


class ServiceContainer:
    """A running container of `image_container`."""

    def __init__(
        self,
        launch: Launch,
        room: Room,
        process: ContainerProcess,
        spec: ServiceSpec,
        *,
        identity: Identity,
        ended: Callable[[ServiceContainer], None],
    ) -> None:
        self._launch = launch
        self._room = room
        self._process = process
        self._spec = spec
        self._user_namespace = identity.user_namespace
        self._ended = ended
        self._forwarders: dict[int, Forwarder] = {}
        self._stopped = False

    @property
    def native(self) -> WaitTarget:
        """What the wait strategies of testcontainers take."""
        return WaitTarget(self)

    def port(self, container_port: int) -> tuple[str, int]:
        """Return the host and port on which `container_port` can be reached from the test."""
        check_published(container_port, self._spec.ports)
        self._check_running()
        if container_port not in self._forwarders:
            ours, theirs = socket.socketpair()
            with theirs:
                helper = self._enter({"connect": container_port}, keyboard=theirs.fileno())
            self._forwarders[container_port] = Forwarder(ours, helper)
        return "127.0.0.1", self._forwarders[container_port].port

    def exec(self, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> ExecResult:
        """Run a command in the container."""
        self._check_running()
        config = self._room.record.config
        variables = {
            **environment_of(config, self._room.upper, self._room.hostname),
            **self._spec.environment,
            **(environment or {}),
        }
        wish = {"command": list(command), "environment": variables, "workdir": workdir_of(config)}
        with self._enter(wish, keyboard=subprocess.DEVNULL) as child:
            stdout, stderr = child.communicate(timeout=_EXEC_SECONDS)
        return ExecResult(exit_code=child.returncode, stdout=stdout, stderr=stderr)

    def logs(self) -> str:
        """Return what the container printed so far, both streams."""
        return (self._room.folder / "output").read_text(encoding="utf-8", errors="replace")

    def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Put a file at an absolute path inside."""
        self._check_running()
        with self._enter({"write": path, "mode": mode}, keyboard=subprocess.PIPE) as child:
            _, said = child.communicate(data, timeout=_EXEC_SECONDS)
        if child.returncode:
            raise EngineError(f"a file cannot be written in the container: {said.decode(errors='replace').strip()}")

    def read(self, path: str) -> bytes:
        """Return the content of a file inside; symbolic links are followed. Raises FileNotFoundError."""
        try:
            return self._room.upper.read(path)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"there is no {path} in the container") from error
        except IsADirectoryError as error:
            raise IsADirectoryError(f"{path} in the container is not a file") from error

    def exit_code(self) -> int | None:
        """Return the exit code of the container; None while it runs."""
        return self._process.wait(0)

    def stop(self) -> None:
        """Kill and remove it. Calling it again does nothing."""
        if self._stopped:
            return
        self._stopped = True
        for forwarder in self._forwarders.values():
            forwarder.close()
        self._process.close()
        self._room.remove()
        self._ended(self)

    def _check_running(self) -> None:
        code = self.exit_code()
        if code is not None:
            raise ended_error(code, self.logs())

    def _enter(self, wish: Mapping[str, object], *, keyboard: int) -> subprocess.Popen[bytes]:
        config = {**wish, "user": self._user_namespace, "keep": CAPABILITY_NUMBERS}
        return self._launch.spawner.start(
            [sys.executable, "-I", "-S", enter.__file__, str(self._process.pid), json.dumps(config)],
            stdin=keyboard,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(),
        )


class Forwarder:
    """A port of this machine whose connections go to a port in a container. `asker` is the socket of `enter.py`."""

    def __init__(self, asker: socket.socket, helper: subprocess.Popen[bytes]) -> None:
        self._asker = asker
        self._helper = helper
        self._asking = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="imagebuild-port", daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._asking:
            self._asker.close()
        with self._helper as helper:
            helper.kill()

    def _accept(self) -> None:
        while True:
            try:
                outside, _ = self._listener.accept()
            except OSError:
                return
            inside = self._connect()
            if inside is None:
                outside.close()
                continue
            threading.Thread(target=_join, args=(outside, inside), name="imagebuild-pump", daemon=True).start()

    def _connect(self) -> socket.socket | None:
        with self._asking, contextlib.suppress(OSError):
            self._asker.send(b"c")
            _, files, _, _ = socket.recv_fds(self._asker, 1, 1)
            if files:
                inside = socket.socket(fileno=files[0])
                # A time limit was on the connecting, and a limit makes the open file non-blocking for everybody.
                inside.setblocking(True)
                return inside
        return None


def _join(outside: socket.socket, inside: socket.socket) -> None:
    """Carry bytes both ways until both sides have ended."""
    with outside, inside:
        back = threading.Thread(target=_pump, args=(inside, outside), name="imagebuild-pump", daemon=True)
        back.start()
        _pump(outside, inside)
        back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
    with contextlib.suppress(OSError):
        source.shutdown(socket.SHUT_RD)
