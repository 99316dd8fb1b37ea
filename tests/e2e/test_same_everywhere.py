"""Machines that have only the definitions in common get the same lockfile, byte for byte, and the same keys."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import final

from engines import CHOSEN, open_engine

TIMEOUT = 600

PROJECT = """
from pytest_imagebuild import Image

whole = Image.debian_slim("3.13").apt_install("hello").uv_pip_install("attrs", "six>=1.16").env({"A": "1"})
small = Image.from_registry("python:3.13-slim-trixie").pip_install("six", "iniconfig")
related = Image.from_registry("python:3.13-slim-trixie").pip_install("six<1.17")

def test_keys(image_build):
    for image in (related, small, whole):
        print("key", image_build(image).key)
"""


def test_all_engines_resolve_the_same_definitions_to_the_same_bytes_and_keys(tmp_path: Path) -> None:
    with contextlib.ExitStack() as running:
        machines = [
            running.enter_context(_Machine(tmp_path / name, environment))
            for name, environment in _engines(tmp_path).items()
        ]
        assert len(machines) > 1, "there is but one engine, so nothing is compared"
        results = [machine.result() for machine in machines]

    assert [result.keys for result in results[1:]] == [results[0].keys for _ in results[1:]]
    assert len(results[0].keys) == 3
    assert [result.lockfile for result in results[1:]] == [results[0].lockfile for _ in results[1:]]
    assert results[0].lockfile.count("\n[[layer]]\n") == 6
    assert re.search(
        r'name = "hello"\nversion = "[\w.+-]+"\narchitecture = "\w+"\nhashes = \[\s*"sha256:[0-9a-f]{64}",?\s*\]',
        results[0].lockfile,
    )


def _engines(folder: Path) -> dict[str, Mapping[str, str]]:
    """Return the variables with which a run uses each engine that is there, with a cache folder of its own."""
    found = {name: open_engine(name, folder / name / "cache").environment for name in CHOSEN}
    if "docker" in found and "IMAGEBUILD_TEST_DOCKER_CURRENT" in os.environ:
        own = open_engine("docker", folder / "current" / "cache").environment
        found["current"] = {**own, "DOCKER_HOST": os.environ["IMAGEBUILD_TEST_DOCKER_CURRENT"]}
    return found


class _Result:
    def __init__(self, output: str, lockfile: str) -> None:
        self.keys = re.findall(r"^key (\w{64})$", output, re.MULTILINE)
        self.lockfile = lockfile


@final
class _Machine:
    """A folder with the project, and an engine of its own; pytest begins to run in it at once.

    What the engines have stored, a base that was built by force among it, has no part in it.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        folder.mkdir()
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "test_images.py").write_text(PROJECT)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-rP", "--ignore-image-cache"],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> _Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def result(self) -> _Result:
        output, _ = self._process.communicate(timeout=TIMEOUT)
        assert self._process.returncode == 0, output
        return _Result(output, (self._folder / "imagebuild.lock").read_text())
