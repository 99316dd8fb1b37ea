"""Service containers: what a host test talks to."""

from __future__ import annotations

import io
import posixpath
import tarfile
from typing import TYPE_CHECKING

from docker.errors import NotFound

from pytest_imagebuild.engines.docker import files
from pytest_imagebuild.engines.docker.connection import engine_errors
from pytest_imagebuild.engines.docker.natives import NativeContainer
from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.services import ExecResult, ServiceSpec, check_published, ended_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_imagebuild.engines.docker.launcher import Launcher

__all__ = ["ServiceContainer", "start_service"]

_MOST_LINKS = 40


def start_service(launcher: Launcher, layer: BuiltLayer, spec: ServiceSpec) -> ServiceContainer:
    """Start a container that runs `spec.command`, else what the image itself runs."""
    client, host = launcher.client, launcher.host
    native = NativeContainer(client, layer.reference, spec.environment, spec.ports).with_kwargs(
        **({"entrypoint": list(spec.command)} if spec.command else {}),
        labels=dict(launcher.labels),
        init=host.init or None,
        pids_limit=host.pids_limit,
    )
    with engine_errors("start a service container"):
        try:
            native.start()
        except BaseException:
            native.stop()
            raise
    service = ServiceContainer(launcher, native, spec.ports)
    launcher.running.add(service)
    return service


class ServiceContainer:
    """A running container of `image_container`."""

    def __init__(self, launcher: Launcher, native: NativeContainer, ports: Sequence[int]) -> None:
        self._launcher = launcher
        self._api = launcher.client.api
        self._native = native
        self._ports = ports
        self._container = native.name

    @property
    def native(self) -> NativeContainer:
        """The testcontainers object."""
        return self._native

    def port(self, container_port: int) -> tuple[str, int]:
        """Return the host and port on which `container_port` can be reached from the test."""
        check_published(container_port, self._ports)
        with engine_errors(f"find port {container_port} of a container"):
            state = self._api.inspect_container(self._container)["State"]
            if not state["Running"]:
                raise ended_error(state["ExitCode"], self.logs())
            return self._native.get_container_host_ip(), self._native.get_exposed_port(container_port)

    def exec(self, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> ExecResult:
        """Run a command in the container."""
        with engine_errors("run a command in a container"):
            process = self._api.exec_create(self._container, list(command), environment=dict(environment or {}))["Id"]
            stdout, stderr = self._api.exec_start(process, demux=True)
            code = self._api.exec_inspect(process)["ExitCode"]
        return ExecResult(exit_code=int(code), stdout=stdout or b"", stderr=stderr or b"")

    def logs(self) -> str:
        """Return what the container printed so far, both streams."""
        with engine_errors("read the output of a container"):
            printed = self._api.logs(self._container)
        return printed.decode("utf-8", errors="replace")

    def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Put a file at an absolute path inside."""
        folders = files.missing_folders(self._api, self._container, [posixpath.dirname(path)])
        files.put(self._api, self._container, folders, [FileEntry(path=path, mode=mode, data=data)])

    def read(self, path: str) -> bytes:
        """Return the content of a file inside; symbolic links are followed. Raises FileNotFoundError."""
        at = path
        for _ in range(_MOST_LINKS):
            member, data = self._get(at, path)
            if member.issym():
                at = posixpath.join(posixpath.dirname(at), member.linkname)
            elif member.isreg():
                return data
            else:
                raise IsADirectoryError(f"{path} in the container is not a file")
        raise FileNotFoundError(f"{path} in the container is a ring of symbolic links")

    def stop(self) -> None:
        """Kill and remove it. Calling it again does nothing."""
        try:
            self._native.stop()
        finally:
            self._launcher.running.discard(self)

    def _get(self, at: str, path: str) -> tuple[tarfile.TarInfo, bytes]:
        with engine_errors(f"read {path} from a container"):
            try:
                chunks, _ = self._api.get_archive(self._container, at)
            except NotFound as error:
                raise FileNotFoundError(f"there is no {path} in the container") from error
            archive = b"".join(chunks)
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            member = tar.next()
            if member is None:
                raise FileNotFoundError(f"there is no {path} in the container")
            content = tar.extractfile(member) if member.isreg() else None
            return member, content.read() if content else b""
