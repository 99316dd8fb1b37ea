"""A registry that fails while a base image comes: the error names the image and what was answered, nothing is left."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bases import Repository
from engines import EngineUnderTest
from failing_registry import FailingRegistry
from inner import Inner

SAID = {
    "429": {
        "embedded": "which answered: HTTP 429 Too Many Requests. Try again later",
        "docker": "which answered: toomanyrequests: made to fail. Log in with `docker login` to get a higher limit.",
    },
    "503": {
        "embedded": "which cannot be reached: HTTP 503 Service Unavailable. ",
        "docker": "which cannot be reached: received unexpected HTTP status: 503 Service Unavailable. ",
    },
    "cut": {"embedded": "it broke off: ", "docker": "it gave: "},
    "wrong": {
        "embedded": "it gave: content with the digest ",
        "docker": "it gave: filesystem layer verification failed for digest ",
    },
}

TESTS = """
    import pytest
    from pytest_imagebuild import Image


    @pytest.mark.image(Image.from_registry("{reference}").env({{"NONCE": "{nonce}"}}))
    @pytest.mark.parametrize("number", range(2))
    def test_inside(number):
        pass
    """


@pytest.fixture
def registry() -> Iterator[FailingRegistry]:
    with FailingRegistry("127.0.0.1") as registry:
        yield registry


@pytest.fixture
def repository(nonce: str) -> str:
    """Return the name of a repository with an image that has a layer of its own."""
    name = f"e2e/{nonce}"
    repository = Repository(name)
    config, layers = repository.copied()
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        member = tarfile.TarInfo("random")
        member.size = 100_000
        tar.addfile(member, io.BytesIO(os.urandom(member.size)))
    config["rootfs"]["diff_ids"].append(f"sha256:{hashlib.sha256(data.getvalue()).hexdigest()}")
    config.pop("history", None)
    repository.push("1", config, [*layers, repository.put_layer(gzip.compress(data.getvalue()))])
    return name


@pytest.mark.parametrize("fault", SAID)
def test_a_registry_that_fails_is_named_with_its_answer_and_the_next_run_is_green(
    tmp_path: Path, engine: EngineUnderTest, nonce: str, registry: FailingRegistry, repository: str, fault: str
) -> None:
    reference = f"{registry.address}/{repository}:1"
    project = Inner(tmp_path, engine)
    tests = TESTS.format(reference=reference, nonce=nonce)
    project.write({"pytest.ini": "[pytest]\n", "test_it.py": tests})
    registry.fault = fault

    failed = project.run()

    assert "2 errors" in failed.out, failed.text
    assert reference in failed.out
    assert SAID[fault][engine.name] in failed.out, failed.text
    assert "Traceback" not in failed.text
    assert engine.containers() == []
    assert engine.layers(nonce) == {}
    assert engine.remains(nonce) == []

    registry.fault = ""
    again = project.run()
    assert "2 passed" in again.out, again.text
    assert engine.remains(nonce) == []
    engine.remove_layers(nonce)
    engine.forget_base(reference.rpartition(":")[0])
