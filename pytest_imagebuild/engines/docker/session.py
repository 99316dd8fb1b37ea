"""Session containers: their main process is a worker that talks over the attach connection."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

from docker.types import LogConfig

from pytest_imagebuild.engines.configuration import started_by
from pytest_imagebuild.engines.docker.channel import AttachChannel
from pytest_imagebuild.engines.docker.connection import HOST_NAME, LOOK, LOST, engine_errors
from pytest_imagebuild.engines.docker.limits import limits_of, ran_out_of_memory
from pytest_imagebuild.engines.docker.natives import NativeContainer
from pytest_imagebuild.engines.docker.removing import remove_container
from pytest_imagebuild.engines.docker.stream import AttachStream
from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.protocol import ExitStatus, SessionSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests
    from docker import APIClient

    from pytest_imagebuild.engines.docker.launcher import Launcher

__all__ = ["SessionContainer", "start_session"]


def start_session(launcher: Launcher, layer: BuiltLayer, spec: SessionSpec) -> SessionContainer:
    """Create a container of `layer`, attach to it, and start it.

    Its input closes when this process dies, so the worker ends then, and the daemon removes what has ended.
    """
    client, host = launcher.client, launcher.host
    variables = {**launcher.gpus.variables(spec.gpus), **spec.environment}
    native = NativeContainer(client, layer.reference, variables).with_kwargs(
        entrypoint=started_by(launcher.config(layer.reference), spec.command),
        stdin_open=True,
        auto_remove=True,
        user="0:0",
        labels=dict(launcher.labels),
        healthcheck={"test": ["NONE"]},
        log_config=LogConfig(type="none"),
        init=host.init or None,
        pids_limit=host.pids_limit,
        mounts=launcher.volumes.mounts(spec.volumes),
        **limits_of(spec.memory, spec.cpu),
        device_requests=launcher.gpus.requests(spec.gpus) or None,
        **_network(spec.network),
    )
    with engine_errors("start a session container"), contextlib.ExitStack() as undo:
        name = native.create()
        undo.callback(remove_container, client.api, name)
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
        killed = code == 128 + signal.SIGKILL and not self._stopped
        return ExitStatus.of(code, out_of_memory=killed and ran_out_of_memory(self._api, self._container))

    def stop(self) -> None:
        """Kill and remove it. Calling it again does nothing."""
        if self._stopped:
            return
        self._stopped = True
        self._channel.close()
        try:
            remove_container(self._api, self._container)
        finally:
            self._launcher.running.discard(self)


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
            self._status = ExitStatus(code=None, detail=f"The connection to Docker was lost. {LOOK}")
        finally:
            self._ended.set()


def _exit_status(answer: Mapping[str, Any]) -> ExitStatus:
    error = answer.get("Error") or {}
    return ExitStatus(code=int(answer["StatusCode"]), detail=str(error.get("Message") or ""))


def _network(network: str) -> dict[str, Any]:
    return {"extra_hosts": {HOST_NAME: "host-gateway"}} if network == "default" else {"network": network}
