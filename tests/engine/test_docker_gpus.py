"""A user's tests with `gpu=` on a Docker engine that reads specifications of devices."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .cdi import daemon_with_cdi, specify
from .conftest import ADDRESSES, REAL

pytestmark = pytest.mark.skipif("docker-current" not in REAL, reason="Docker with CDI is not among the engines")

PROJECT = """\
import os
from pathlib import Path

import pytest
from pytest_imagebuild import Image

IMAGE = Image.from_registry("python:3.13-slim-trixie")
BUILT = IMAGE.run_commands("test -c /dev/acme1 && echo $ACME_1 > /made", gpu="X2")


def devices():
    return sorted(path.name for path in Path("/dev").glob("acme*"))


@pytest.mark.image(IMAGE, gpu="X1")
@pytest.mark.parametrize("number", range(3))
def test_one(number):
    assert devices() == ["acme0"]
    assert os.environ["ACME_0"] == "X1"


@pytest.mark.image(IMAGE, gpu="any:2")
def test_both():
    assert devices() == ["acme0", "acme1"]


@pytest.mark.image(BUILT)
def test_built():
    assert Path("/made").read_text() == "X2\\n"
    assert devices() == []


@pytest.mark.image(IMAGE, gpu="H100")
def test_another():
    raise AssertionError("it runs")
"""


def test_tests_and_steps_have_the_gpus_that_they_ask_for(tmp_path: Path) -> None:
    registry = os.environ.get("IMAGEBUILD_TEST_REGISTRY", "")
    options = ["--registry-mirror", f"http://{registry}", "--insecure-registry", registry] if registry else []
    specifications = specify(tmp_path)
    project = tmp_path / "project"
    project.mkdir()
    (project / "pytest.ini").write_text("[pytest]\n")
    (project / "test_it.py").write_text(PROJECT)
    with daemon_with_cdi(specifications, ADDRESSES["docker-current"], options) as daemon:
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", "-p", "xdist", "-n2"],
            cwd=project,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
                "IMAGEBUILD_ENGINE": "docker",
                "IMAGEBUILD_CACHE_DIR": str(tmp_path / "cache"),
                "DOCKER_HOST": daemon.address,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
    assert "5 passed, 1 skipped" in ran.stdout, ran.stdout + ran.stderr
    assert "asked for H100, found X1 (acme.com/gpu=0), X2 (acme.com/gpu=1) (looked at " in ran.stdout
