"""Ring 3: a user's project, a real pytest process, a real engine: on every engine, unless a test says otherwise."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from bases import OwnBase, own_base
from engines import CHOSEN, EngineUnderTest, open_engine
from inner import BEGUN, Inner
from locking import index, locking

__all__ = ["index", "locking"]

USED_BY_MANY = ("python:3.13-slim-trixie", "python:3.11-slim-trixie")
"""Bases that tests take for built, as they count what is built on them."""


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all xdist workers of this run share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory, common: Path) -> Path:
    """Return the cache folder that the end-to-end tests share: downloads of tools are made once.

    Each xdist worker has its own, so that it can tell its containers from those of others; the locks are common, as
    the Docker engine is.
    """
    folder = tmp_path_factory.mktemp("imagebuild-cache")
    if "PYTEST_XDIST_WORKER" in os.environ:
        locks = common / "imagebuild-locks"
        locks.mkdir(exist_ok=True)
        (folder / "locks").symlink_to(locks)
    return folder


@pytest.fixture(scope="session", params=CHOSEN)
def engine(
    request: pytest.FixtureRequest, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> EngineUnderTest:
    """Return an engine that the tests run on, seen from behind the plugin."""
    engine = open_engine(request.param, cache_dir)
    _build_what_many_use(Inner(tmp_path_factory.mktemp("warm"), engine))
    return engine


def _build_what_many_use(project: Inner) -> None:
    lines = ["import pytest", "from pytest_imagebuild import Image"]
    for number, reference in enumerate(USED_BY_MANY):
        lines += ["", f'@pytest.mark.image(Image.from_registry("{reference}"))', f"def test_{number}(): pass"]
    ran = project.write({"pytest.ini": "[pytest]\n", "test_it.py": "\n".join(lines)}).run("--image-build-only")
    assert "layers: reused" in ran.out, ran.text


@pytest.fixture(autouse=True)
def _no_run_outlives_its_test() -> Iterator[None]:
    yield
    for process in BEGUN:
        process.kill()
        process.wait()
    BEGUN.clear()


@pytest.fixture
def nonce() -> str:
    """Return a text that no other test has: a step that holds it is in no cache."""
    return uuid.uuid4().hex


@pytest.fixture
def base(nonce: str, engine: EngineUnderTest) -> Iterator[OwnBase]:
    """Return a base image that no other test has."""
    with own_base(nonce, engine) as own:
        yield own


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, engine: EngineUnderTest) -> pytest.Pytester:
    """Return an empty project whose tests run on the engine, each run in a process of its own."""
    for name, value in engine.environment.items():
        monkeypatch.setenv(name, value)
    # Python takes a .pyc for its source where time in seconds and size are the same: two runs may be within a second.
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    for name in ("MODAL_FORCE_BUILD", "MODAL_IGNORE_CACHE", "MODAL_IMAGE_BUILDER_VERSION", "CI", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    pytester.makeini("[pytest]\n")
    pytester._method = "subprocess"
    return pytester
