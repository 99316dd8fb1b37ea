"""A live worker without a container: the supervisor as a plain process, behind the engine's seam."""

from __future__ import annotations

import io
import os
import select
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_imagebuild.engines.protocol import ExitStatus
from pytest_imagebuild.errors import EngineError
from pytest_imagebuild.masking import Masking
from pytest_imagebuild.session.messages import Done, Message, Missing, Output, Report, WarningSeen
from pytest_imagebuild.session.session import Session
from pytest_imagebuild.session.setup import Setup

PACKAGE_HOME = Path(__file__).parents[2]
PYTHON = os.environ.get("IMAGEBUILD_TEST_PYTHON", sys.executable)
"""Which Python, and so which pytest, the worker is."""

SECONDS = 20.0
"""More than anything here takes."""


class PipeChannel:
    """A `Channel` over the pipes of a process."""

    def __init__(self, process: subprocess.Popen[bytes], errors: Path) -> None:
        self.process = process
        self._errors = errors

    def send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        left = memoryview(data)
        try:
            while left:
                left = left[self.process.stdin.write(left) :]
        except (OSError, ValueError) as error:
            raise EngineError(str(error)) from error

    def receive(self, timeout: float | None) -> bytes | None:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], SECONDS if timeout is None else timeout)
        if not ready:
            assert timeout is not None, "the worker has nothing more to say"
            return None
        return os.read(self.process.stdout.fileno(), 65536)

    def error_output(self) -> bytes:
        return self._errors.read_bytes()[-4096:]

    def close(self) -> None:
        with suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.close()


class ProcessContainer:
    """A `Container` that is a process."""

    id = "process"

    def __init__(self, folder: Path, prefix: tuple[str, ...] = ()) -> None:
        errors = folder / "stderr.txt"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment.pop("PYTHONUNBUFFERED", None)
        environment["PYTHONPATH"] = str(PACKAGE_HOME)
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        with errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*prefix, PYTHON, "-m", "pytest_imagebuild.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                env=environment,
                start_new_session=True,
            )
        self.channel = PipeChannel(self.process, errors)

    def wait(self, timeout: float) -> ExitStatus:
        code = self.process.wait(timeout)
        return ExitStatus(code=code if code >= 0 else 128 - code)

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        self.channel.close()
        try:
            self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(SECONDS)
            raise


@dataclass
class Run:
    """What came of one item."""

    messages: list[Message]

    @property
    def reports(self) -> dict[str, dict[str, Any]]:
        """Report data by phase."""
        return {message.data["when"]: message.data for message in self.messages if isinstance(message, Report)}

    @property
    def outcomes(self) -> dict[str, str]:
        return {when: data["outcome"] for when, data in self.reports.items()}

    @property
    def failure(self) -> str:
        """The crash line of the first phase that failed."""
        for data in self.reports.values():
            if data["outcome"] == "failed":
                longrepr = data["longrepr"]
                return str(longrepr if isinstance(longrepr, str) else longrepr["reprcrash"]["message"])
        return ""

    @property
    def lines(self) -> list[str]:
        """The traceback, as the terminal would show it."""
        longrepr = self.reports["call"]["longrepr"]
        return [line for entry in longrepr["reprtraceback"]["reprentries"] for line in entry["data"]["lines"]]

    @property
    def output(self) -> str:
        return "".join(message.data for message in self.messages if isinstance(message, Output))

    @property
    def warnings(self) -> list[WarningSeen]:
        return [message for message in self.messages if isinstance(message, WarningSeen)]

    @property
    def missing(self) -> Missing:
        last = self.messages[-1]
        assert isinstance(last, Missing)
        return last

    @property
    def stop(self) -> str | None:
        last = self.messages[-1]
        assert isinstance(last, Done)
        return last.stop


@dataclass
class Worker:
    """A project and the worker that runs its tests."""

    folder: Path
    container: ProcessContainer
    files: dict[str, str] = field(default_factory=dict)
    session: Session = field(init=False)

    @property
    def project(self) -> Path:
        return self.folder / "project"

    def start(
        self,
        *,
        collect: tuple[str, ...] | None = None,
        start_timeout: float | None = None,
        secrets: Mapping[str, str] | None = None,
        **setup: Any,
    ) -> Worker:
        """Begin the session with the project's files as payload, and let it collect the test files."""
        secrets = secrets or {}
        values: dict[str, Any] = {
            "cwd": str(self.project),
            "rootdir": str(self.project),
            "args": (str(self.project),),
            "root": str(self.folder),
            "directories": (str(self.project),),
            "environment": {"PYTHONDONTWRITEBYTECODE": "1", **secrets},
            "payload": tar({f"project/{name}": text for name, text in self.files.items()}),
            **setup,
        }
        masking = Masking(secrets.values())
        self.session = Session(self.container, Setup(**values), start_timeout=start_timeout, masking=masking)
        self.session.begin()
        names = [name for name in self.files if Path(name).name.startswith("test_")] if collect is None else collect
        self.session.collect([str(self.project / name) for name in names])
        return self

    def run(self, item: str, then: str | None = None, *, failed: int = 0, timeout: float = SECONDS) -> Run:
        return Run(list(self.session.run(item, then, failed, timeout)))

    def finish(self) -> list[Message]:
        return list(self.session.finish(SECONDS))


def tar(files: Mapping[str, str]) -> bytes:
    """Return a tar of text files, as the payload of a session is."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, text in files.items():
            data = textwrap.dedent(text).lstrip("\n").encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.mtime = 1_700_000_000
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


class Makes:
    """Makes workers, and sees to it that none is left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._containers: list[ProcessContainer] = []

    def __call__(self, files: Mapping[str, str] | str, /, *prefix: str) -> Worker:
        """Return a worker, not started yet, for files by name, or for the text of `test_it.py`.

        `prefix` is a command that starts it.
        """
        folder = self._folder / str(len(self._containers))
        folder.mkdir()
        container = ProcessContainer(folder, prefix)
        self._containers.append(container)
        return Worker(folder, container, {"test_it.py": files} if isinstance(files, str) else dict(files))

    def end(self) -> None:
        for container in self._containers:
            container.stop()
            with suppress(ProcessLookupError):
                os.killpg(container.process.pid, signal.SIGKILL)
            if container.process.stdout is not None:
                container.process.stdout.close()


def gone(pid: int) -> bool:
    """Tell whether a process has ended within a while."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False
