"""Ring 3: a user's project, a real pytest process, a real engine."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import docker
import pytest


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the cache folder that the end-to-end tests share: downloads of tools are made once."""
    return tmp_path_factory.mktemp("imagebuild-cache")


@pytest.fixture
def client() -> docker.DockerClient:
    """Return a client of the engine that the tests run on, for what is checked behind the plugin's back."""
    if "DOCKER_HOST" not in os.environ:
        pytest.fail('DOCKER_HOST is not set: start the test ground with `eval "$(tests/ground/up)"`', pytrace=False)
    return docker.from_env()


@pytest.fixture
def nonce() -> str:
    """Return a text that no other test has: a step that holds it is in no cache."""
    return uuid.uuid4().hex


@pytest.fixture
def project(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, cache_dir: Path, client: docker.DockerClient
) -> pytest.Pytester:
    """Return an empty project whose tests run on the test ground's engine, each run in a process of its own."""
    monkeypatch.setenv("IMAGEBUILD_CACHE_DIR", str(cache_dir))
    monkeypatch.setenv("IMAGEBUILD_ENGINE", "docker")
    for name in ("MODAL_FORCE_BUILD", "MODAL_IGNORE_CACHE", "MODAL_IMAGE_BUILDER_VERSION", "CI", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    pytester.makeini("[pytest]\n")
    pytester._method = "subprocess"
    return pytester
