"""BuildKit by way of buildx: found where the Docker CLI looks for its plugins, and run on its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_imagebuild.engines.context_folder import write_context
from pytest_imagebuild.engines.docker.dockerfile.rewrite import ENVIRONMENT
from pytest_imagebuild.engines.entries import read_entry
from pytest_imagebuild.engines.lines import Tail
from pytest_imagebuild.engines.protocol import Output
from pytest_imagebuild.engines.script import export
from pytest_imagebuild.engines.work import CommandFailed, DockerfileWork
from pytest_imagebuild.errors import EngineError

__all__ = ["Buildx", "find_buildx"]

_FILE = "imagebuild.Dockerfile"
_PLUGIN_FOLDERS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
    "/Applications/Docker.app/Contents/Resources/cli-plugins",
)
_STEP = re.compile(r"#(?P<step>\d+) (?P<rest>.*)")
_PRINTED = re.compile(r"\d+\.\d+ (?P<text>.*)")
_PLACE = re.compile(rf"{re.escape(_FILE)}:(?P<line>\d+)")
_EXIT = re.compile(r"exit code: (?P<code>\d+)")


def find_buildx(environ: Mapping[str, str]) -> str | None:
    """Return the path of buildx; None where it is not installed."""
    config = environ.get("DOCKER_CONFIG")
    folders = [Path(config) if config else Path.home() / ".docker"]
    candidates = [*(str(folder / "cli-plugins") for folder in folders), *_PLUGIN_FOLDERS]
    return shutil.which("docker-buildx") or shutil.which("docker-buildx", path=os.pathsep.join(candidates))


class Buildx:
    """Builds with the BuildKit of one engine, from contexts in `folder`. `close` ends what builds."""

    def __init__(self, program: str, address: str, folder: Path) -> None:
        self._program = program
        self._address = address
        self._folder = folder
        self._running: set[subprocess.Popen[str]] = set()
        self._changing = threading.Lock()

    def build(self, text: str, work: DockerfileWork, name: str, labels: Mapping[str, str], output: Output) -> str:
        """Build and name an image; return its id. Raises CommandFailed at the line that failed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="dockerfile-") as place:
            folder = Path(place)
            (folder / _FILE).write_text(text, encoding="utf-8")
            # An ignore file of the context has done its work.
            (folder / f"{_FILE}.dockerignore").write_text("", encoding="utf-8")
            (folder / "context").mkdir()
            write_context(folder / "context", work.context)
            secrets = self._secrets(work, folder)
            arguments = [
                *("build", "--builder", "default", "--progress", "plain", "--no-cache"),
                *("--output", "type=docker", "--iidfile", str(folder / "id")),
                *("--file", str(folder / _FILE), "--tag", name),
                *(("--network", work.network) if work.network != "default" else ()),
                *(("--target", work.target) if work.target else ()),
                *(part for key, value in labels.items() for part in ("--label", f"{key}={value}")),
                *(part for key, value in work.build_args.items() for part in ("--build-arg", f"{key}={value}")),
                *(part for given in secrets.options for part in ("--secret", given)),
                str(folder / "context"),
            ]
            self._run(arguments, {**secrets.environment, "BUILDX_CONFIG": str(folder / "buildx")}, output)
            return (folder / "id").read_text(encoding="utf-8").strip()

    def close(self) -> None:
        """End what builds."""
        with self._changing:
            running = tuple(self._running)
        for process in running:
            process.kill()
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def _secrets(self, work: DockerfileWork, folder: Path) -> _Secrets:
        found = _Secrets()
        if work.variables:
            found.add(ENVIRONMENT, "".join(export(name, value) for name, value in work.variables.items()))
        for name, value in work.secrets.items():
            found.add(name, value)
        for number, tool in enumerate(work.tools):
            path = folder / f"tool-{number}"
            path.write_bytes(read_entry(tool))
            found.options.append(f"id=imagebuild-tool-{number},src={path}")
        return found

    def _run(self, arguments: list[str], secrets: Mapping[str, str], output: Output) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BUILDX_")}
        environment.pop("DOCKER_CONTEXT", None)
        environment |= {"DOCKER_HOST": self._address, "BUILDX_NO_DEFAULT_ATTESTATIONS": "1", **secrets}
        process = subprocess.Popen(
            [self._program, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        with self._changing:
            self._running.add(process)
        report = _Report(output)
        try:
            with process:
                for line in process.stderr or ():
                    report.take(line.rstrip("\n"))
        finally:
            with self._changing:
                self._running.discard(process)
            process.kill()
        if process.returncode != 0:
            raise report.failure()


@dataclass(frozen=True, slots=True)
class _Secrets:
    """Secrets for buildx: their values are in its environment, which no other user sees."""

    options: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict, repr=False)

    def add(self, name: str, value: str) -> None:
        variable = f"IMAGEBUILD_SECRET_{len(self.environment)}"
        self.options.append(f"id={name},env={variable}")
        self.environment[variable] = value


class _Report:
    """Reads the plain progress of buildx."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._printed: dict[str, Tail] = {}
        self._failed = ""
        self._place: int | None = None
        self._error = ""
        self._last = Tail(8192)

    def take(self, line: str) -> None:
        self._last.add(line)
        step = _STEP.fullmatch(line)
        if step is not None:
            self._step(step["step"], step["rest"])
        elif place := _PLACE.fullmatch(line.strip()):
            self._place = int(place["line"])
        elif line.startswith("ERROR: "):
            self._error = line.removeprefix("ERROR: ")

    def failure(self) -> Exception:
        """Return the exception of a build that failed."""
        error = self._error or self._last.text().strip()
        if self._place is None:
            return EngineError(f"BuildKit could not build the Dockerfile: {error}")
        code = _EXIT.search(error)
        printed = self._printed[self._failed].text() if code and self._failed in self._printed else f"{error}\n"
        return CommandFailed(index=self._place, exit_code=int(code["code"]) if code else 1, output=printed)

    def _step(self, step: str, rest: str) -> None:
        if rest.startswith("ERROR"):
            self._failed = step
        printed = _PRINTED.fullmatch(rest)
        if printed is not None:
            self._printed.setdefault(step, Tail()).add(printed["text"])
        elif rest.startswith(("DONE", "CACHED", "ERROR", "CANCELED", "...")):
            return
        self._output(printed["text"] if printed is not None else rest)
