"""Session containers: their main process is a worker that talks over the attach connection."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

from docker.errors import DockerException
from docker.types import LogConfig

from pytest_imagebuild.engines.docker.channel import AttachChannel
from pytest_imagebuild.engines.docker.connection import LOST, engine_errors
from pytest_imagebuild.engines.docker.marks import seconds
from pytest_imagebuild.engines.docker.natives import NativeContainer
from pytest_imagebuild.engines.docker.stream import AttachStream
from pytest_imagebuild.engines.docker.work import remove
from pytest_imagebuild.engines.protocol import BuiltLayer, ExitStatus, SessionSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests
    from docker import APIClient

    from pytest_imagebuild.engines.docker.launcher import Launcher

__all__ = ["SessionContainer", "start_session"]

_CPU_PERIOD = 100_000
"""Microseconds, as the kernel has it by default."""


def start_session(launcher: Launcher, layer: BuiltLayer, spec: SessionSpec) -> SessionContainer:
    """Create a container of `layer`, attach to it, and start it.

    Its input closes when this process dies, so the worker ends then, and the daemon removes what has ended.
    """
    client, host = launcher.client, launcher.host
    native = NativeContainer(client, layer.reference, spec.environment).with_kwargs(
        entrypoint=list(spec.command),
        stdin_open=True,
        auto_remove=True,
        user="0:0",
        labels=dict(launcher.labels),
        healthcheck={"test": ["NONE"]},
        log_config=LogConfig(type="none"),
        init=host.init or None,
        pids_limit=host.pids_limit,
        **_limits(spec),
        **_network(spec.network),
    )
    with engine_errors("start a session container"), contextlib.ExitStack() as undo:
        name = native.create()
        undo.callback(remove, client.api, name)
        params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        stream = AttachStream(client.api.attach_socket(name, params=params))
        undo.callback(stream.close)
        watch = _ExitWatch(client.api, name)
        native.start()
        undo.pop_all()
    container = SessionContainer(launcher, name, AttachChannel(stream), watch)
    launcher.running.add(container)
    return container


class SessionContainer:
    """A running session container."""

    def __init__(self, launcher: Launcher, container: str, channel: AttachChannel, watch: _ExitWatch) -> None:
        self._launcher = launcher
        self._api = launcher.client.api
        self._container = container
        self._channel = channel
        self._watch = watch
        self._stopped = False

    @property
    def id(self) -> str:
        """The engine's name of it."""
        return self._container

    @property
    def channel(self) -> AttachChannel:
        """The stream to its main process."""
        return self._channel

    def wait(self, timeout: float) -> ExitStatus:
        """Wait up to `timeout` seconds for the main process to end."""
        status = self._watch.wait(timeout)
        if status is None:
            return ExitStatus(code=None, detail=f"it still ran after {timeout:g} s")
        code = status.code
        if code is None or code <= 128:
            return status
        if code == 128 + signal.SIGKILL and not self._stopped and self._ran_out_of_memory():
            return ExitStatus(code=code, out_of_memory=True, detail="the kernel killed it: out of memory")
        return ExitStatus(code=code, detail=_signal_name(code - 128))

    def stop(self) -> None:
        """Kill and remove it. Calling it again does nothing."""
        if self._stopped:
            return
        self._stopped = True
        self._channel.close()
        try:
            remove(self._api, self._container)
        finally:
            self._launcher.running.discard(self)

    def _ran_out_of_memory(self) -> bool:
        """Ask the daemon's memory of past events: the container itself is removed by now."""
        filters = {"container": self._container, "event": "oom"}
        try:
            # By the daemon's clock. It waits for an end in the future, and the event may come after the exit.
            until = int(seconds(self._api.info()["SystemTime"])) + 1
            return any(True for _ in self._api.events(since=1, until=until, filters=filters, decode=True))
        except (DockerException, KeyError, *LOST):
            return False


class _ExitWatch:
    """Waits for the end of a container from before its start on: afterwards there may be none to ask about."""

    def __init__(self, api: APIClient, container: str) -> None:
        url = f"{api.base_url}/v{api.api_version}/containers/{container}/wait"
        # The daemon answers with its headers as soon as it watches, with the status when the container has ended.
        self._response = api.post(url, params={"condition": "next-exit"}, stream=True, timeout=None)
        self._response.raise_for_status()
        self._ended = threading.Event()
        self._status = ExitStatus(code=None)
        threading.Thread(target=self._watch, args=(self._response,), name="imagebuild-exit", daemon=True).start()

    def wait(self, timeout: float) -> ExitStatus | None:
        return self._status if self._ended.wait(timeout) else None

    def _watch(self, response: requests.Response) -> None:
        try:
            self._status = _exit_status(response.json())
        except (ValueError, KeyError, TypeError, *LOST):
            self._status = ExitStatus(code=None, detail="the connection to Docker was lost")
        finally:
            self._ended.set()


def _exit_status(answer: Mapping[str, Any]) -> ExitStatus:
    error = answer.get("Error") or {}
    return ExitStatus(code=int(answer["StatusCode"]), detail=str(error.get("Message") or ""))


def _signal_name(number: int) -> str:
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return ""


def _limits(spec: SessionSpec) -> dict[str, int]:
    limits: dict[str, int] = {}
    if spec.memory is not None:
        limits.update(mem_limit=spec.memory, memswap_limit=spec.memory)
    if spec.cpu is not None:
        # Not NanoCpus, of which Docker refuses more than the machine has.
        limits.update(cpu_period=_CPU_PERIOD, cpu_quota=round(spec.cpu * _CPU_PERIOD))
    return limits


def _network(network: str) -> dict[str, str]:
    return {} if network == "default" else {"network": network}
