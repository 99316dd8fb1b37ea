"""Execute a `Work` in a container of the parent, and keep or throw away what comes of it."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, ImageNotFound
from docker.types import DeviceRequest, LogConfig

from pytest_imagebuild.engines.configuration import shell_of, workdir_of
from pytest_imagebuild.engines.docker import files
from pytest_imagebuild.engines.docker.connection import engine_errors
from pytest_imagebuild.engines.docker.gpus import Gpus
from pytest_imagebuild.engines.docker.limits import limits_of, ran_out_of_memory
from pytest_imagebuild.engines.docker.removing import Removals, gone, remove_container
from pytest_imagebuild.engines.docker.stream import STDERR, AttachStream
from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.protocol import Output
from pytest_imagebuild.engines.script import Script, in_memory, in_the_way
from pytest_imagebuild.engines.step_output import StepOutput
from pytest_imagebuild.engines.work import Work, WorkEnd
from pytest_imagebuild.errors import EngineError

if TYPE_CHECKING:
    from docker import APIClient
    from docker.types import Mount

    from pytest_imagebuild.engines.docker.volumes import Volumes

__all__ = ["Host", "Workshop"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """What the daemon can give to containers of ours."""

    init: bool
    pids_limit: int | None

    def working(
        self, api: APIClient, work: Work, mounts: Sequence[Mount], devices: Sequence[DeviceRequest]
    ) -> dict[str, Any]:
        """Return the HostConfig of a container for some work. Nothing that it prints is kept by the daemon.

        An init would leave its mount point, an empty /sbin/docker-init, in the layer.
        """
        return dict(
            api.create_host_config(
                init=False,
                pids_limit=self.pids_limit,
                log_config=LogConfig(type="none"),
                mounts=list(mounts) or None,
                network_mode=None if work.network == "default" else work.network,
                **limits_of(work.memory, work.cpu),
                device_requests=list(devices) or None,
            )
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Placed:
    """What was put into the container for the commands only."""

    files: tuple[str, ...]
    folders: tuple[str, ...]


class Workshop:
    """Makes containers that work. `containers` holds the ids of those at work, to be removed at a sudden end."""

    def __init__(self, api: APIClient, host: Host, gpus: Gpus, labels: Mapping[str, str], volumes: Volumes) -> None:
        self._api = api
        self._host = host
        self._gpus = gpus
        self._labels = dict(labels)
        self._volumes = volumes
        self._removals = Removals(api)
        self.containers: set[str] = set()

    @contextlib.contextmanager
    def done(
        self, image: str, parent: Mapping[str, Any], work: Work, output: Output, *, show: bool = True
    ) -> Iterator[tuple[str, bytes]]:
        """Execute `work`; yield the id of the ended container, and its standard output where `show` is false.

        `parent` is the configuration of `image`. The container is gone afterwards, or is going: see `settle`.
        """
        with self._container(image, parent, work) as container:
            placed = self._place(container, parent, work)
            shell = shell_of(parent)
            result = self._execute(container, work, placed, shell, output, show=show) if work.commands else b""
            yield container, result

    def settle(self) -> None:
        """Wait until the containers that have done their work are gone."""
        self._removals.settle()

    def close(self) -> None:
        """Remove the containers that there are, also those that work."""
        self._removals.close()
        for working in tuple(self.containers):
            remove_container(self._api, working)

    @contextlib.contextmanager
    def _container(self, image: str, parent: Mapping[str, Any], work: Work) -> Iterator[str]:
        mounts = self._volumes.mounts(work.volumes if work.commands else ())
        # The user of the container would be committed where the parent names none, so it is given only where one is.
        with engine_errors("create a container to work in"):
            try:
                container = self._api.create_container(
                    image,
                    entrypoint=["/bin/sh"],
                    stdin_open=True,
                    user="0:0" if parent.get("User") else None,
                    labels=self._labels,
                    host_config=self._host.working(self._api, work, mounts, self._gpus.requests(work.gpus)),
                )["Id"]
            except ImageNotFound as error:
                raise gone(image) from error
        self.containers.add(container)
        try:
            yield container
        except BaseException:
            # It may still run, with what the step was lent.
            self.containers.discard(container)
            self._removals.remove(container)
            raise
        self._removals.begin(container)
        self.containers.discard(container)

    def _execute(
        self, container: str, work: Work, placed: _Placed, shell: Sequence[str], output: Output, *, show: bool
    ) -> bytes:
        script = Script(
            commands=work.commands,
            shell=shell,
            environment={**self._gpus.variables(work.gpus), **work.environment, **work.secrets},
            memory_files=[tool for tool in work.tools if in_memory(tool)],
            removed_files=placed.files,
            removed_folders=placed.folders,
            one_stream=show,
        )
        reader = StepOutput(script, output, show=show)
        with engine_errors("run a step"):
            end = self._converse(container, script, reader, work.timeout)
        return reader.result(end)

    def _place(self, container: str, parent: Mapping[str, Any], work: Work) -> _Placed:
        tools = [tool for tool in work.tools if work.commands and not in_memory(tool)]
        kept = files.missing_folders(self._api, container, _folders(work, parent))
        known = {*kept, *(entry.path for entry in work.files)}
        lent = [
            folder
            for folder in files.missing_folders(self._api, container, (_folder(tool) for tool in tools))
            if folder not in known
        ]
        for tool in tools:
            if tool.path in known or (_folder(tool) not in lent and files.exists(self._api, container, tool.path)):
                raise in_the_way(tool)
        if kept or lent or work.files or tools:
            files.put(self._api, container, [*kept, *lent], [*work.files, *tools])
        return _Placed(files=tuple(tool.path for tool in tools), folders=tuple(reversed(lent)))

    def _converse(self, container: str, script: Script, reader: StepOutput, timeout: float | None) -> WorkEnd:
        params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        stream = AttachStream(self._api.attach_socket(container, params=params))
        try:
            self._api.start(container)
            # A shell that ended at once does not take its script; what it said is still to be read.
            with contextlib.suppress(EngineError):
                stream.send(script.text.encode("utf-8", "surrogateescape"))
            timed_out = self._read(container, stream, reader, timeout)
            reader.finish()
            code = int(self._api.wait(container)["StatusCode"])
        finally:
            stream.close()
        killed = code == 128 + signal.SIGKILL and not timed_out
        return WorkEnd(code=code, timed_out=timed_out, out_of_memory=killed and ran_out_of_memory(self._api, container))

    def _read(self, container: str, stream: AttachStream, reader: StepOutput, timeout: float | None) -> bool:
        """Take in what comes until it ends; return whether the container was killed after `timeout` seconds."""
        end, timed_out = None if timeout is None else time.monotonic() + timeout, False
        while (frames := stream.read(None if end is None else max(0.0, end - time.monotonic()))) != []:
            if end is not None and time.monotonic() >= end:
                end, timed_out = None, True
                # It may have ended by itself just now.
                with contextlib.suppress(APIError):
                    self._api.kill(container)
            for number, data in frames or ():
                reader.feed(data, error=number == STDERR)
        return timed_out


def _folders(work: Work, parent: Mapping[str, Any]) -> Iterator[str]:
    yield from (_folder(entry) for entry in work.files)
    if work.config.workdir is not None:
        yield workdir_of(parent, work.config.workdir)


def _folder(entry: FileEntry) -> str:
    return str(PurePosixPath(entry.path).parent)
