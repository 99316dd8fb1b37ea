"""Execute a `Work` in a container of the parent, and keep or throw away what comes of it."""

from __future__ import annotations

import contextlib
import select
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pytest_imagebuild.engines.configuration import shell_of, workdir_of
from pytest_imagebuild.engines.embedded.bwrap import Mount
from pytest_imagebuild.engines.embedded.gpus import Gpus
from pytest_imagebuild.engines.embedded.identity import Identity
from pytest_imagebuild.engines.embedded.process import ContainerProcess, Launch
from pytest_imagebuild.engines.embedded.rooms import Room, Rooms
from pytest_imagebuild.engines.embedded.store import Record
from pytest_imagebuild.engines.embedded.volumes import Volumes
from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.protocol import Output
from pytest_imagebuild.engines.script import Script, in_memory, in_the_way
from pytest_imagebuild.engines.step_output import StepOutput
from pytest_imagebuild.engines.work import Work, WorkEnd
from pytest_imagebuild.errors import EngineError

__all__ = ["Workshop"]

_CHUNK = 256 * 1024
# Where there is one id only: apt would change to a user that is not there (apt.conf(5), APT::Sandbox::User).
_APT_CONFIG = 'APT::Sandbox::User "root";\n'
_APT_CONFIG_PATH = "/dev/imagebuild-apt.conf"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Lent:
    """What is in the container for the commands only. `files` are copies, `points` are what is mounted on."""

    mounts: tuple[Mount, ...]
    files: tuple[str, ...]
    points: tuple[str, ...]
    folders: tuple[str, ...]


class Workshop:
    """Makes containers that work."""

    def __init__(self, launch: Launch, rooms: Rooms, volumes: Volumes, gpus: Gpus, *, identity: Identity) -> None:
        self._launch = launch
        self._rooms = rooms
        self._volumes = volumes
        self._gpus = gpus
        self._identity = identity
        self._running: set[ContainerProcess] = set()
        self._changing = threading.Lock()

    @contextlib.contextmanager
    def done(self, parent: Record, work: Work, output: Output, *, show: bool = True) -> Iterator[tuple[Path, bytes]]:
        """Execute `work`; yield the folder that holds what it wrote, and standard output where `show` is false.

        Both are gone afterwards, unless the folder is moved away.
        """
        room = self._rooms.open(parent)
        try:
            lent = self._place(room, work)
            result = self._execute(room, work, lent, output, show=show) if work.commands else b""
            yield room.upper.folder, result
        finally:
            room.remove()

    def stop_all(self) -> None:
        """End whatever works."""
        with self._changing:
            running = tuple(self._running)
        for process in running:
            process.kill()

    def _place(self, room: Room, work: Work) -> _Lent:
        upper = room.upper
        upper.put(work.files)
        if work.config.workdir is not None:
            upper.make_folder(workdir_of(room.record.config, work.config.workdir))
        tools = [tool for tool in work.tools if work.commands and not in_memory(tool)]
        for tool, found in zip(tools, upper.find(*(tool.path for tool in tools), follow=False), strict=True):
            if found is not None:
                raise in_the_way(tool)
        folders: list[str] = []
        for tool in tools:
            folders += upper.make_folder(str(PurePosixPath(tool.path).parent))
        mounted = [tool for tool in tools if tool.source is not None]
        copied = [tool for tool in tools if tool.source is None]
        points = [upper.destination(tool.path) for tool in mounted]
        upper.put(copied)
        upper.put(FileEntry(path=point, mode=0o755, data=b"") for point in points)
        return _Lent(
            mounts=tuple(_mount(tool, point) for tool, point in zip(mounted, points, strict=True)),
            files=tuple(tool.path for tool in copied),
            points=tuple(points),
            folders=tuple(reversed(folders)),
        )

    def _execute(self, room: Room, work: Work, lent: _Lent, output: Output, *, show: bool) -> bytes:
        memory = [tool for tool in work.tools if in_memory(tool)]
        gpus = self._gpus.lend(room, work.gpus, variables=work.environment)
        variables = {**work.environment, **gpus.variables, **work.secrets}
        mounts = [*lent.mounts, *self._volumes.mounted(room, work.volumes), *gpus.mounts]
        if self._identity.single:
            mounts.append(room.lend("apt.conf", _APT_CONFIG, _APT_CONFIG_PATH))
            variables.setdefault("APT_CONFIG", _APT_CONFIG_PATH)
        script = Script(
            commands=work.commands,
            shell=shell_of(room.record.config),
            environment=variables,
            memory_files=memory,
            removed_files=lent.files,
            removed_folders=lent.folders,
            one_stream=show,
        )
        reader = StepOutput(script, output, show=show)
        sandbox = room.sandbox(variables={}, network=work.network, identity=self._identity, mounts=tuple(mounts))
        confinement = room.confine(memory=work.memory, cpu=work.cpu)
        process = self._launch.start(sandbox, ["/bin/sh"], building=True, confinement=confinement)
        with self.noted(process):
            timed_out = _converse(process, script, reader, work.timeout)
            code = process.wait(None) or 0
            killed = code == 128 + signal.SIGKILL and not timed_out
            end = WorkEnd(code=code, timed_out=timed_out, out_of_memory=killed and process.out_of_memory)
        result = reader.result(end)
        room.upper.take_out((*lent.points, *gpus.points), (*lent.folders, *gpus.folders))
        return result

    @contextlib.contextmanager
    def noted(self, process: ContainerProcess) -> Iterator[None]:
        """Have a container ended at a sudden end of this process, and in any case afterwards."""
        with self._changing:
            self._running.add(process)
        try:
            yield
        finally:
            with self._changing:
                self._running.discard(process)
            process.close()


def _converse(process: ContainerProcess, script: Script, reader: StepOutput, timeout: float | None) -> bool:
    """Send the script, and take in what comes until both outputs end. The input stays open: its end ends the work.

    Returns whether it was killed after `timeout` seconds.
    """
    stdin, stdout, stderr = process.streams
    sender = threading.Thread(target=_send, args=(stdin, script), name="imagebuild-script", daemon=True)
    sender.start()
    waiting = {stdout.fileno(): False, stderr.fileno(): True}
    poll = select.poll()
    for number in waiting:
        poll.register(number, select.POLLIN)
    end, timed_out = None if timeout is None else time.monotonic() + timeout, False
    while waiting:
        if end is not None and time.monotonic() >= end:
            end, timed_out = None, True
            process.kill()
        for number, _ in poll.poll(None if end is None else max(0.0, end - time.monotonic()) * 1000):
            data = stdout.read(_CHUNK) if number == stdout.fileno() else stderr.read(_CHUNK)
            if data:
                reader.feed(data, error=waiting[number])
            else:
                poll.unregister(number)
                del waiting[number]
    reader.finish()
    sender.join()
    return timed_out


def _send(stdin: object, script: Script) -> None:
    # A shell that ended at once does not take its script; what it said is still to be read.
    rest = memoryview(script.text.encode("utf-8", "surrogateescape"))
    with contextlib.suppress(OSError):
        while rest:
            rest = rest[stdin.write(rest) :]  # type: ignore[attr-defined]


def _mount(tool: FileEntry, point: str) -> Mount:
    if tool.source is None:
        raise EngineError(f"{tool.path} has no source")
    return Mount(source=tool.source, target=point)
