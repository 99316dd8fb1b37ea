"""A container as a process: started by bubblewrap, ended with everything in it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import IO, NamedTuple, cast

from pytest_imagebuild.engines.embedded import guard
from pytest_imagebuild.engines.embedded.bounds import Bound
from pytest_imagebuild.engines.embedded.bwrap import Sandbox
from pytest_imagebuild.engines.embedded.limits import Confinement
from pytest_imagebuild.engines.embedded.seccomp import program
from pytest_imagebuild.engines.embedded.spawner import Spawner
from pytest_imagebuild.engines.embedded.tried import Tried
from pytest_imagebuild.errors import EngineError

__all__ = ["ContainerProcess", "Launch"]


class Launch(NamedTuple):
    """How containers are started here: by which program, in which thread. `tried` is the note that it works."""

    bwrap: str
    spawner: Spawner
    tried: Tried

    def start(
        self,
        sandbox: Sandbox,
        command: Sequence[str],
        *,
        building: bool = False,
        guarded: bool = False,
        output: int | IO[bytes] = subprocess.PIPE,
        keyboard: int = subprocess.PIPE,
        confinement: Confinement | Bound,
    ) -> ContainerProcess:
        """Start `command` in a container. With `output`, both of its outputs go there.

        `guarded` is for a command that does not end with its standard input.
        """
        with contextlib.ExitStack() as files:
            contents = []
            for content in sandbox.in_memory:
                contents.append(_memory_file("content", content))
                files.callback(os.close, contents[-1])
            arguments = _memory_file("arguments", sandbox.arguments(contents))
            files.callback(os.close, arguments)
            status, writing = os.pipe()
            undo = contextlib.ExitStack()
            undo.callback(os.close, status)
            undo.callback(confinement.remove)
            files.callback(os.close, writing)
            passed = [arguments, writing, *contents, *sandbox.identity.files]
            options = ["--args", str(arguments), "--json-status-fd", str(writing)]
            filtering = program(building=building) if sandbox.identity.single else None
            if filtering is not None:
                passed.append(_memory_file("filter", filtering))
                files.callback(os.close, passed[-1])
                options += ["--seccomp", str(passed[-1])]
            started = confinement.enter([self.bwrap, *options, "--", *command])
            guard_of = [sys.executable, "-I", "-S", guard.__file__, str(os.getpid())] if guarded else []
            with undo:
                child = self.spawner.start(
                    [*guard_of, *started],
                    stdin=keyboard,
                    stdout=output,
                    stderr=subprocess.PIPE if output == subprocess.PIPE else output,
                    pass_fds=passed,
                )
                undo.pop_all()
        container = ContainerProcess(child, status, confinement, guarded=guarded)
        if container.pid is None:
            self.tried.forget()
            raise EngineError(f"bubblewrap starts no container: {container.last_words()}. Look at `imagebuild doctor`.")
        confinement.settle(container.pid)
        return container


class ContainerProcess:
    """A running container. Its child here is bubblewrap, or its guard, which ends when that of the command does."""

    def __init__(
        self, child: subprocess.Popen[bytes], status: int, confinement: Confinement | Bound, *, guarded: bool
    ) -> None:
        self._child = child
        self._guarded = guarded
        self._confinement = confinement
        self.out_of_memory = False
        self._status = status
        self._ended = os.pidfd_open(child.pid)
        self._first: int | None = None
        self.pid = self._read_pid()

    @property
    def streams(self) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
        """Its input, its output and its error output, where they are pipes."""
        child = self._child
        return cast("tuple[IO[bytes], IO[bytes], IO[bytes]]", (child.stdin, child.stdout, child.stderr))

    def wait(self, timeout: float | None) -> int | None:
        """Return the exit code, 128 + signal for one that was killed; None when `timeout` seconds passed."""
        if self._child.returncode is None:
            poll = select.poll()
            poll.register(self._ended, select.POLLIN)
            if not poll.poll(None if timeout is None else timeout * 1000):
                return None
        code = self._child.wait()
        self.out_of_memory = self.out_of_memory or self._confinement.out_of_memory()
        return 128 - code if code < 0 else code

    def last_words(self) -> str:
        """Let go of a container that was not started; return what was said of it."""
        stderr = self._child.stderr
        said = stderr.read() if stderr is not None else b""
        code = self.wait(None)
        self.close()
        return " ".join(said.decode(errors="replace").split())[-1000:] or f"it ended with exit code {code}"

    def kill(self) -> None:
        """Kill every process in it, and wait until they are gone."""
        with contextlib.suppress(ProcessLookupError):
            # The kernel ends all of a pid namespace with its first process, and that one ends last.
            if self._first is not None:
                signal.pidfd_send_signal(self._first, signal.SIGKILL)
            elif self._guarded:
                self._child.terminate()
            else:
                self._child.kill()
        self._child.wait()

    def close(self) -> None:
        """Kill it, and let go of its descriptors."""
        self.kill()
        self._confinement.kill()
        self._confinement.remove()
        for number in (self._status, self._ended, self._first):
            if number is not None:
                os.close(number)
        for stream in (self._child.stdin, self._child.stdout, self._child.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _read_pid(self) -> int | None:
        """Return the process id of the first process inside; None where bubblewrap made none."""
        line = b""
        while not line.endswith(b"\n"):
            data = os.read(self._status, 4096)
            if not data:
                return None
            line += data
        try:
            pid = int(json.loads(line.splitlines()[0])["child-pid"])
        except (ValueError, KeyError, TypeError) as error:
            raise EngineError(f"bubblewrap said what it should not: {line[:200]!r}") from error
        with contextlib.suppress(ProcessLookupError):
            self._first = os.pidfd_open(pid)
        return pid


def _memory_file(name: str, content: bytes) -> int:
    number = os.memfd_create(f"imagebuild-{name}", os.MFD_CLOEXEC)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(number, rest) :]
        os.lseek(number, 0, os.SEEK_SET)
    except BaseException:
        os.close(number)
        raise
    return number
