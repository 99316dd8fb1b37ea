"""The classic builder of an engine, by docker-py."""

from __future__ import annotations

import contextlib
import re
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, DockerException

from pytest_imagebuild.dockerfile import Dockerfile
from pytest_imagebuild.dockerfile.scope import PREDEFINED
from pytest_imagebuild.engines.docker.connection import LOST, engine_errors
from pytest_imagebuild.engines.docker.files import context_archive
from pytest_imagebuild.engines.entries import FileEntry, read_entry
from pytest_imagebuild.engines.lines import Tail
from pytest_imagebuild.engines.protocol import Output
from pytest_imagebuild.engines.work import CommandFailed, DockerfileWork

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["ClassicBuilder"]

_IGNORE = "/.dockerignore"
_STEP = re.compile(r"Step (?P<number>\d+)/\d+ : ")
_COLOUR = re.compile(r"\x1b\[\d*m")
_MADE = re.compile(r" ---> (?P<id>[0-9a-f]{12})\s*")


class ClassicBuilder:
    """Builds without BuildKit. Proxies are given as build arguments, which Docker keeps out of the history."""

    def __init__(self, api: APIClient) -> None:
        self._api = api

    def build(
        self,
        dockerfile: Dockerfile,
        text: str,
        work: DockerfileWork,
        *,
        name: str,
        labels: Mapping[str, str],
        output: Output,
    ) -> str:
        """Build and name an image; return its id. Raises CommandFailed at the line that failed."""
        file = f".imagebuild-{uuid.uuid4().hex}"
        proxies = {key: value for key, value in work.host_settings.items() if key in PREDEFINED}
        for key in sorted(set(work.host_settings) - set(proxies)):
            output(f"{key} of this machine is not set for RUN: the classic builder would keep it in the history")
        report = _Report(dockerfile, output)
        with tempfile.TemporaryFile() as archive, engine_errors("build a Dockerfile"):
            for part in context_archive(_with_dockerfile(work.context, file, text)):
                archive.write(part)
            archive.seek(0)
            try:
                events = self._api.build(
                    fileobj=archive,
                    custom_context=True,
                    dockerfile=file,
                    tag=name,
                    buildargs={**proxies, **work.build_args},
                    labels=dict(labels),
                    network_mode=None if work.network == "default" else work.network,
                    target=work.target or None,
                    nocache=True,
                    rm=True,
                    forcerm=True,
                    decode=True,
                )
                for event in events:
                    report.take(event)
            finally:
                self._discard(report.made)
        if report.failure is not None:
            raise report.failure
        image: dict[str, Any] = self._api.inspect_image(name)  # type: ignore[no-untyped-call]
        return str(image["Id"])

    def _discard(self, made: list[str]) -> None:
        """Remove images of the way that nothing stands on: of a build that failed, and of other stages."""
        for image in reversed(made):
            with contextlib.suppress(APIError, DockerException, *LOST):
                found: dict[str, Any] = self._api.inspect_image(image)  # type: ignore[no-untyped-call]
                # Whatever has a name was there before, or is the result; what others stand on is refused.
                if not found.get("RepoTags") and not found.get("RepoDigests"):
                    self._api.remove_image(image, noprune=True)


class _Report:
    """Reads the events of a build. `made` are the images that it names, `failure` what ended it."""

    def __init__(self, dockerfile: Dockerfile, output: Output) -> None:
        self.made: list[str] = []
        self.failure: Exception | None = None
        self._lines = list(dockerfile.instruction_lines)
        self._line = 1
        self._tail = Tail()
        self._output = output

    def take(self, event: Mapping[str, Any]) -> None:
        # Error output comes in red.
        for line in _COLOUR.sub("", str(event.get("stream") or "")).splitlines():
            if line.strip():
                self._said(line)
        if "error" in event:
            detail = event.get("errorDetail") or {}
            said = " ".join(str(event["error"]).split())
            code = int(detail.get("code") or 0)
            output = self._tail.text() if code else f"{said}\n"
            self.failure = CommandFailed(index=self._line, exit_code=code or 1, output=output)

    def _said(self, line: str) -> None:
        step = _STEP.match(line)
        made = _MADE.fullmatch(line)
        if step is not None:
            number = int(step["number"])
            self._line = self._lines[number - 1] if number <= len(self._lines) else self._line
            self._tail = Tail()
        elif made is not None:
            self.made.append(made["id"])
            return
        elif line.startswith((" ---> Running in", "Removing intermediate container", "Successfully ")):
            return
        else:
            self._tail.add(line)
        self._output(line)


def _with_dockerfile(context: tuple[FileEntry, ...], file: str, text: str) -> Iterator[FileEntry]:
    """Add the Dockerfile to the context, and the ignore file that keeps it out of what is copied."""
    ignored = f"{file}\n"
    for entry in context:
        if entry.path == _IGNORE:
            ignored = read_entry(entry).decode("utf-8", "replace").rstrip("\n") + f"\n{file}\n"
        else:
            yield entry
    if not any(entry.path == _IGNORE for entry in context):
        ignored += ".dockerignore\n"
    yield FileEntry(path=_IGNORE, mode=0o644, data=ignored.encode())
    yield FileEntry(path=f"/{file}", mode=0o644, data=text.encode())
