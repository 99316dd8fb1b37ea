"""Projects whose pytest runs in a process of its own, for tests that read one run many times or run two at once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engines import EngineUnderTest

TIMEOUT = 300
"""Seconds that a run may take. Nothing here takes a tenth of it; a busy machine may."""

BEGUN: list[subprocess.Popen[bytes]] = []
"""The runs that were begun, for a test that fails before it has waited for its own."""

SLEEPS = {
    "pytest.ini": "[pytest]\n",
    "test_sleeps.py": """
        import time

        import pytest
        from pytest_imagebuild import Image

        pytestmark = pytest.mark.image(Image.from_registry("python:3.13-slim-trixie"))


        def test_sleeps():
            print("now it sleeps")
            time.sleep(600)


        def test_later():
            pass
        """,
}
"""A project whose first test runs until somebody ends it."""

_NOT_INHERITED = (
    "MODAL_FORCE_BUILD",
    "MODAL_IGNORE_CACHE",
    "MODAL_IMAGE_BUILDER_VERSION",
    "CI",
    "BUILD_NUMBER",
    "COLUMNS",
    "PYTEST_ADDOPTS",
    "TOX_ENV_DIR",  # pytest keeps one cache there for all projects
    "PYTEST_PLUGINS",
    "PYTEST_CURRENT_TEST",
    "PYTEST_XDIST_WORKER",
)


@dataclass(frozen=True, slots=True)
class Ran:
    """A run that has ended: its exit code, and what it printed to either stream."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return f"{self.out}\n{self.err}"

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@dataclass(frozen=True, slots=True)
class Running:
    """A pytest process that may still run. Its output goes to files, so it never waits for a reader."""

    process: subprocess.Popen[bytes]
    folder: Path

    def out(self) -> str:
        return (self.folder / "out.txt").read_text("utf-8", errors="replace")

    def wait(self, timeout: float = TIMEOUT) -> Ran:
        try:
            code = self.process.wait(timeout)
        finally:
            self.process.kill()
            self.process.wait()
        return Ran(code, self.out(), (self.folder / "err.txt").read_text("utf-8", errors="replace"))


@dataclass(slots=True)
class Inner:
    """A project in a folder, run on an engine."""

    home: Path
    engine: EngineUnderTest
    environment: dict[str, str] = field(default_factory=dict)
    _runs: int = 0

    @property
    def folder(self) -> Path:
        return self.home / "project"

    def write(self, files: Mapping[str, str]) -> Inner:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text).lstrip("\n"), "utf-8")
        return self

    @property
    def variables(self) -> dict[str, str]:
        """The environment of its processes."""
        return {
            **{name: value for name, value in os.environ.items() if name not in _NOT_INHERITED},
            # As in the fixture `project`.
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.engine.environment,
            "COLUMNS": "120",
            # Into a file Python would keep text back; to a terminal, which a user of `-s` has, it does not.
            "PYTHONUNBUFFERED": "1",
            **self.environment,
        }

    def begin(self, *arguments: str, **environment: str) -> Running:
        """Start `python -m pytest` in the project."""
        self._runs += 1
        logs = self.home / f"run{self._runs}"
        logs.mkdir(parents=True)
        with (logs / "out.txt").open("wb") as out, (logs / "err.txt").open("wb") as err:
            process = subprocess.Popen(
                # A shell starts what it runs in the background deaf to Ctrl-C, and that is inherited.
                ["env", "--default-signal=INT", sys.executable, "-m", "pytest", *arguments],
                cwd=self.folder,
                env={**self.variables, **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        BEGUN.append(process)
        return Running(process, logs)

    def run(self, *arguments: str, **environment: str) -> Ran:
        return self.begin(*arguments, **environment).wait()


def outcomes(ran: Ran) -> dict[str, str]:
    """Return the words that `-v` prints after the names of tests, without their file.

    What is printed meanwhile parts the two; there, the summary of `-rA` tells.
    """
    words = ("PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL")
    found: dict[str, str] = {}
    for line in ran.lines:
        first, second, *_ = (*line.split(" "), "")
        if "::" in first and second in words:
            found[first.partition("::")[2]] = second
        elif first in words and "::" in second:
            found.setdefault(second.partition("::")[2], first)
    return found


def failure_of(ran: Ran, name: str) -> str:
    """Return what the terminal tells of the failure of a test."""
    lines = ran.lines
    begin = next(n for n, line in enumerate(lines) if line.startswith("___") and f" {name} " in line)
    end = next(n for n in range(begin + 1, len(lines)) if lines[n].startswith(("___", "===")))
    return "\n".join(lines[begin:end])
