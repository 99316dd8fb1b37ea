"""Two machines that have only the definitions in common get the same lockfile, byte for byte, and the same keys."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_two_engines_resolve_the_same_definitions_to_the_same_bytes_and_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = os.environ["DOCKER_HOST"]
    second = os.environ.get("IMAGEBUILD_TEST_DOCKER_CURRENT") or first
    # Without a second engine the first one has to build everything twice: its cache is not to be used.
    flags = ["--ignore-image-cache"] if second == first else []
    machines = [_Machine(tmp_path / "one", first, []), _Machine(tmp_path / "two", second, flags)]

    results = [machine.result() for machine in machines]

    assert results[0].keys == results[1].keys
    assert len(results[0].keys) == 3
    assert results[0].lockfile == results[1].lockfile
    assert results[0].lockfile.count("\n[[layer]]\n") == 6
    assert re.search(
        r'name = "hello"\nversion = "[\w.+-]+"\narchitecture = "\w+"\nhashes = \[\s*"sha256:[0-9a-f]{64}",?\s*\]',
        results[0].lockfile,
    )


class _Result:
    def __init__(self, output: str, lockfile: str) -> None:
        self.keys = re.findall(r"^key (\w{64})$", output, re.MULTILINE)
        self.lockfile = lockfile


class _Machine:
    """A folder with the project, a cache folder and an engine of its own; pytest begins to run in it at once."""

    def __init__(self, folder: Path, engine: str, flags: list[str]) -> None:
        self._folder = folder
        folder.mkdir()
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "test_images.py").write_text(PROJECT)
        environment = {"DOCKER_HOST": engine, "IMAGEBUILD_CACHE_DIR": str(folder / "cache")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-rP", *flags],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def result(self) -> _Result:
        try:
            output, _ = self._process.communicate(timeout=TIMEOUT)
        finally:
            self._process.kill()
        assert self._process.returncode == 0, output
        return _Result(output, (self._folder / "imagebuild.lock").read_text())
