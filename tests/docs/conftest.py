"""What a reader of the README has: a shell, an engine, a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .readme import ENGINES, ROOT, Shell


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Return the engine that the README's projects use. A reader who has Docker names none."""
    return str(request.param)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("imagebuild-cache")


@pytest.fixture
def shell(cache_dir: Path, engine: str) -> Shell:
    """Return a function that runs a command line in a folder.

    No switch of ours is set there, and the commands of this Python come first.
    """
    if "DOCKER_HOST" not in os.environ:
        pytest.fail('DOCKER_HOST is not set: start the test ground with `eval "$(tests/ground/up)"`', pytrace=False)
    ours = ("MODAL_", "IMAGEBUILD_", "PYTEST_", "COV_", "TOX")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours) and name != "CI"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    # The ground's Docker engines take its registry for Docker Hub, so the embedded engine does.
    mirror = {"IMAGEBUILD_REGISTRY_MIRRORS": f"http://{os.environ['IMAGEBUILD_TEST_REGISTRY']}"}
    chosen = {"IMAGEBUILD_CACHE_DIR": str(cache_dir), **mirror, **ENGINES[engine]}
    environment = {**kept, "PATH": path, "COLUMNS": "120", **chosen}

    def run(line: str, folder: Path, *, timeout: float, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euc", line],
            cwd=folder,
            env={**environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a fresh checkout, with what is not committed yet."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    folder = tmp_path / "checkout"
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, timeout=60, check=True)
    return folder
