"""Run the command of a `RUN` in the place of its stage."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from pytest_imagebuild.engines.configuration import PATH
from pytest_imagebuild.engines.embedded import enter
from pytest_imagebuild.engines.embedded.bwrap import CAPABILITY_NUMBERS, Mount, Sandbox
from pytest_imagebuild.engines.embedded.dockerfile.users import User
from pytest_imagebuild.engines.embedded.identity import Identity
from pytest_imagebuild.engines.embedded.process import ContainerProcess, Launch
from pytest_imagebuild.engines.embedded.rooms import Room
from pytest_imagebuild.engines.entries import FileEntry, read_entry
from pytest_imagebuild.engines.lines import LineReader, Tail
from pytest_imagebuild.engines.protocol import Output
from pytest_imagebuild.engines.script import in_the_way
from pytest_imagebuild.engines.work import CommandFailed
from pytest_imagebuild.errors import EngineError

__all__ = ["Lent", "Program", "Runner"]

_CHUNK = 256 * 1024
_APT_CONFIG = 'APT::Sandbox::User "root";\n'
_APT_CONFIG_PATH = "/dev/imagebuild-apt.conf"
_KERNELS = ("/dev/", "/proc/", "/sys/")


@dataclass(frozen=True, kw_only=True, slots=True)
class Lent:
    """Something that a command sees at `target`, and that stays out of the image.

    It is a file or folder of this machine, or `data` that no disk holds. `variables` are set for the command.
    """

    target: str
    source: Path | None = None
    data: bytes | None = field(default=None, repr=False)
    mode: int = 0o400
    writable: bool = False
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """What is run, as whom and where. `environment` goes on top of what every container has."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    workdir: str
    user: User
    network: str
    lent: Sequence[Lent] = ()
    tools: Sequence[FileEntry] = ()


class Runner:
    """Starts the containers. `noted` marks one that works, so that it is ended when this process closes."""

    def __init__(
        self,
        launch: Launch,
        identity: Identity,
        noted: Callable[[ContainerProcess], AbstractContextManager[None]],
    ) -> None:
        self._launch = launch
        self._identity = identity
        self._noted = noted

    def run(self, room: Room, program: Program, line: int, output: Output) -> None:
        """Run a program and wait for its end. Raises CommandFailed at `line`."""
        variables = dict(program.environment)
        lent = [*program.lent, *(_tool(tool, room) for tool in program.tools)]
        if self._identity.single:
            lent.append(Lent(target=_APT_CONFIG_PATH, data=_APT_CONFIG.encode(), mode=0o444))
            variables.setdefault("APT_CONFIG", _APT_CONFIG_PATH)
        with _points(room, lent, program) as mounts:
            sandbox = self._sandbox(room, program, variables, mounts)
            tail = Tail()

            def take(text: str) -> None:
                tail.add(text)
                output(text)

            reader = LineReader(take, output)
            code = self._converse(sandbox, room, program, reader)
        if code != 0:
            raise CommandFailed(index=line, exit_code=1 if code is None else code, output=tail.text())

    def _sandbox(
        self, room: Room, program: Program, variables: Mapping[str, str], mounts: tuple[Mount, ...]
    ) -> Sandbox:
        sandbox = room.sandbox(variables={}, network=program.network, identity=self._identity, mounts=mounts)
        environment = {"PATH": PATH, "HOSTNAME": room.hostname, "HOME": program.user.home, **variables}
        work = room.folder / "work"
        return replace(sandbox, workdir=program.workdir, environment=environment, work=work)

    def _converse(self, sandbox: Sandbox, room: Room, program: Program, reader: LineReader) -> int | None:
        if program.user.uid == 0 and program.user.gid == 0:
            return self._as_root(sandbox, room, program, reader)
        if self._identity.single:
            # There is no other user to be.
            return self._as_root(sandbox, room, program, reader)
        return self._as_user(sandbox, room, program, reader)

    def _as_root(self, sandbox: Sandbox, room: Room, program: Program, reader: LineReader) -> int | None:
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb", buffering=0) as source:
            try:
                process = self._launch.start(
                    sandbox,
                    program.argv,
                    building=True,
                    output=writing,
                    keyboard=subprocess.DEVNULL,
                    confinement=room.confine(),
                )
            finally:
                os.close(writing)
            with self._noted(process):
                _read(source.fileno(), reader)
                return process.wait(None)

    def _as_user(self, sandbox: Sandbox, room: Room, program: Program, reader: LineReader) -> int:
        """Enter a container that waits, as only root can be told to be started in one."""
        process = self._launch.start(
            sandbox,
            ["/bin/sh", "-c", "echo; read -r line"],
            building=True,
            confinement=room.confine(),
        )
        with self._noted(process):
            # What it prints says that the container is whole.
            if not process.streams[1].read(1):
                said = process.streams[2].read().decode(errors="replace").strip()
                raise EngineError(f"RUN as the user {program.user.uid} needs a shell in the image: {said}")
            user = program.user
            config = {
                "command": list(program.argv),
                "environment": dict(sandbox.environment),
                "workdir": program.workdir,
                "ids": [user.uid, user.gid, *user.groups],
                "user": self._identity.user_namespace,
                "keep": CAPABILITY_NUMBERS,
            }
            number = os.memfd_create("imagebuild-program", os.MFD_CLOEXEC)
            with os.fdopen(number, "w+b") as file:
                file.write(json.dumps(config).encode())
                file.flush()
                file.seek(0)
                child = self._launch.spawner.start(
                    [sys.executable, "-I", "-S", enter.__file__, str(process.pid), str(number)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=[number],
                )
            with child:
                if child.stdout is not None:
                    _read(child.stdout.fileno(), reader)
                return child.wait()


def _read(number: int, reader: LineReader) -> None:
    while data := os.read(number, _CHUNK):
        reader.feed(data)
    reader.finish()


def _tool(tool: FileEntry, room: Room) -> Lent:
    if tool.source is None:
        return Lent(target=tool.path, data=read_entry(tool), mode=tool.mode)
    if room.upper.find(tool.path, follow=False) != [None] and not tool.path.startswith(_KERNELS):
        raise in_the_way(tool)
    return Lent(target=tool.path, source=tool.source)


@contextlib.contextmanager
def _points(room: Room, lent: Sequence[Lent], program: Program) -> Iterator[tuple[Mount, ...]]:
    """Have a file or a folder where each of them is mounted; what had to be made goes again."""
    upper = room.upper
    files: list[str] = []
    folders: list[str] = []
    mounts: list[Mount] = []
    if upper.find(program.workdir) == [None]:
        upper.make_folder(program.workdir)
    try:
        for one in lent:
            if one.target.startswith(_KERNELS):
                # The kernel's own file systems are mounted over the image; bubblewrap makes the place in them.
                mounts.append(_mount(one, one.target))
                continue
            point = upper.destination(one.target)
            is_folder = one.source is not None and one.source.is_dir()
            (found,) = upper.find(point, follow=False)
            if found is not None and found.is_folder != is_folder:
                raise EngineError(f"nothing can be mounted on {one.target}: it is of another kind in the image")
            if found is None:
                above = point if is_folder else str(PurePosixPath(point).parent)
                folders += upper.make_folder(above)
                if not is_folder:
                    upper.put([FileEntry(path=point, mode=0o755, data=b"")])
                    files.append(point)
            mounts.append(_mount(one, point))
        yield tuple(mounts)
    finally:
        upper.take_out(files, tuple(reversed(folders)))


def _mount(one: Lent, point: str) -> Mount:
    return Mount(source=one.source or Path(), target=point, writable=one.writable, data=one.data, mode=one.mode)
