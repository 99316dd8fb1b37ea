"""What the benchmarks of engines have in common: what can be asked for, the engines that answer, a cache folder."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from pytest_imagebuild.engines.choose import choose_engine
from pytest_imagebuild.engines.embedded.bwrap import find_bwrap
from pytest_imagebuild.engines.protocol import Engine
from pytest_imagebuild.engines.stored import Remnant, StoredLayer
from pytest_imagebuild.errors import EngineUnavailableError

__all__ = [
    "ALONE",
    "PYTEST",
    "TESTS",
    "Place",
    "asked",
    "cache_folder",
    "call",
    "find_places",
    "forget",
    "pytest_program",
]

BASE = f"python:{sys.version_info.major}.{sys.version_info.minor}-slim-trixie"
"""The image with the Python that the host runs, as near as can be."""

PYTEST = ("-m", "pytest", "-q")
"""What runs pytest, for a Python."""

ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
"""Variables for runs of pytest that load no other plugin; this one is named with `-p imagebuild`."""

TESTS = """\
import pytest
{marked}
@pytest.mark.parametrize("number", range({count}))
def test_trivial(number):
    assert number >= 0
"""
"""A file of trivial tests: what marks them, and how many."""

TIMEOUT = 600
_CURRENT = "IMAGEBUILD_TEST_DOCKER_CURRENT"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """An engine that answers. `environment` is how the plugin and the `docker` command find it."""

    engine: str
    version: str
    environment: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.engine if self.engine == "embedded" else f"{self.engine} {self.series}"

    @property
    def docker_run(self) -> str:
        return f"docker run {self.series}"

    @property
    def runs_docker(self) -> bool:
        """Whether `docker run` can be timed on it."""
        return self.engine == "docker" and shutil.which("docker") is not None

    @property
    def series(self) -> str:
        return ".".join(self.version.split(".")[:2])

    def variables(self, cache_dir: Path) -> Mapping[str, str]:
        """Return the environment of the plugin on this engine."""
        return {**self.environment, "IMAGEBUILD_ENGINE": self.engine, "IMAGEBUILD_CACHE_DIR": str(cache_dir)}

    def open(self, cache_dir: Path) -> Engine:
        with patch.dict(os.environ, self.environment):
            engine = choose_engine(self.engine, run=f"benchmark-{uuid.uuid4().hex[:12]}", cache_dir=cache_dir)
            engine.capabilities()
        return engine


def asked(description: str | None, *, rounds: int) -> argparse.Namespace:
    """Read the command line: `rounds`, `short`, `docker` (a list of addresses) and `base`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"how often each is timed (default: {rounds})")
    parser.add_argument("--short", action="store_true", help="one round of less, to see that it works")
    parser.add_argument(
        "--docker", action="append", default=[], metavar="ADDRESS", help="an engine, as in DOCKER_HOST; more than once"
    )
    parser.add_argument("--base", default=BASE, help=f"the image (default: {BASE})")
    return parser.parse_args()


def find_places(addresses: Sequence[str], cache_dir: Path) -> list[Place]:
    """Return the embedded engine, and Docker at each address, as far as they answer; tell of those that do not.

    Without addresses, Docker is looked for where the `docker` command does, and where the test ground says.
    """
    if not addresses:
        addresses = ["", *([os.environ[_CURRENT]] if _CURRENT in os.environ else [])]
    candidates = [("embedded", {}), *(("docker", {"DOCKER_HOST": each} if each else {}) for each in addresses)]
    places = []
    for engine, environment in candidates:
        place = Place(engine=engine, version="", environment=environment)
        try:
            opened = place.open(cache_dir)
        except EngineUnavailableError as error:
            print(f"not measured: {engine}: {error}", file=sys.stderr)
            continue
        version = _bubblewrap() if engine == "embedded" else opened.capabilities().version
        opened.close()
        places.append(Place(engine=engine, version=version, environment=environment))
    if not places:
        raise SystemExit("No engine can be used; `imagebuild doctor` says why.")
    return places


@contextmanager
def cache_folder() -> Iterator[Path]:
    """Return an empty cache folder on the disk of the user's own, which carries the mounts of the embedded engine."""
    usual = Path(os.environ.get("IMAGEBUILD_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    usual.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="imagebuild-benchmark-", dir=usual))
    try:
        yield folder
    finally:
        _empty(folder)
        shutil.rmtree(folder)


def call(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> str:
    """Run a command to its end; return what it printed."""
    # Where the first is set, each run compiles anew what others find compiled; with the others, it is another run.
    unset = ("PYTHONDONTWRITEBYTECODE", "PYTEST_ADDOPTS", "PYTEST_PLUGINS", "IMAGEBUILD_ENGINE")
    variables = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**variables, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    return done.stdout


def pytest_program(*arguments: str) -> list[str]:
    """Return the command of a run of pytest that prints little."""
    return [sys.executable, *PYTEST, *arguments]


def forget(place: Place, cache_dir: Path, token: str) -> None:
    """Remove the layers whose step, as it is shown, has the token, and every layer on top of one."""
    engine = place.open(cache_dir)
    try:
        layers = engine.layers()
        lost = {key for key, layer in layers.items() if token in layer.labels.step}
        levels = [lost]
        while levels[-1]:
            levels.append({key for key, layer in layers.items() if layer.labels.parent in levels[-1]})
        stored = {item.built.labels.key: item for item in engine.stored()} if lost else {}
        # A layer that another stands on stays, so the uppermost go first.
        for key in (key for level in reversed(levels) for key in level if key in stored):
            engine.remove(stored[key])
    finally:
        engine.close()


def _empty(cache_dir: Path) -> None:
    """Let the embedded engine remove its layers: an ordinary user may be unable to, by whom the files in them are."""
    with suppress(EngineUnavailableError):
        engine = Place(engine="embedded", version="", environment={}).open(cache_dir)
        freed = 1
        while freed:
            items: list[StoredLayer | Remnant] = [*engine.stored(), *engine.remnants()]
            freed = sum(engine.remove(item) or 0 for item in items)
        engine.close()


def _bubblewrap() -> str:
    return call([find_bwrap() or "bwrap", "--version"], Path("/"), {}).strip()
