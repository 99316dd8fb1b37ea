"""Where base images come from, and what is said when they cannot be had."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.errors
import pytest

from pytest_imagebuild.engines import bootstrap
from pytest_imagebuild.engines.docker import DockerEngine
from pytest_imagebuild.engines.layers import BasePin, LayerLabels
from pytest_imagebuild.engines.protocol import Output
from pytest_imagebuild.errors import BaseImageError

from .conftest import ADDRESSES, BASE, RUN, new_key
from .daemons import NO_HOST, Relay, relay

DIGEST = "sha256:" + "1" * 64


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Relay]:
    with relay(ADDRESSES["docker"].removeprefix("unix://"), tmp_path / "docker.sock") as relaying:
        yield relaying


@pytest.fixture
def offline(listening: Relay) -> Relay:
    """A daemon that reaches no registry."""
    listening.answers = [("/distribution/|fromImage", (500, NO_HOST))]
    return listening


@pytest.fixture
def engine(listening: Relay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DockerEngine]:
    monkeypatch.setenv("DOCKER_HOST", listening.address)
    engine = DockerEngine(run=RUN, cache_dir=tmp_path / "cache")
    yield engine
    engine.close()


@pytest.fixture
def without_image(engine: DockerEngine) -> str:
    """A reference that the daemon has no image of."""
    reference = "python:3.14-slim-trixie"
    for name in (reference, "python:3.14-slim"):
        with contextlib.suppress(docker.errors.APIError):
            docker.from_env().images.remove(name, force=True)
    return reference


class Bootstraps:
    """Stands for mmdebstrap: writes an archive of one file."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.content = b"one"

    def __call__(self, reference: str, *, architecture: str, target: Path, output: Output) -> None:
        self.made.append(reference)
        assert architecture in ("amd64", "arm64")
        output("I: unpacking")
        with tarfile.open(target, "w") as tar:
            member = tarfile.TarInfo("etc/made")
            member.size = len(self.content)
            tar.addfile(member, io.BytesIO(self.content))


@pytest.fixture
def bootstraps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bootstraps]:
    made = Bootstraps()
    monkeypatch.setattr(bootstrap, "bootstrap", made)
    yield made
    client = docker.from_env()
    for image in client.images.list("imagebuild/base"):
        with contextlib.suppress(docker.errors.APIError):
            client.images.remove(image.tags[0])


def labels() -> LayerLabels:
    return LayerLabels(key=new_key(), parent="", generation="", run=RUN)


def test_a_registry_is_asked_for_the_digest_without_a_pull(engine: DockerEngine, listening: Relay) -> None:
    pin = engine.pin_base(BASE, print)
    assert pin.source == "registry"
    assert listening.changes() == []
    assert f"/distribution/{BASE}/json" in listening.calls[-1]


def test_a_reference_with_a_digest_is_its_own_pin(engine: DockerEngine, listening: Relay) -> None:
    assert engine.pin_base(f"python:3.13@{DIGEST}", print) == BasePin(digest=DIGEST, source="registry")
    assert not [call for call in listening.calls if "/distribution/" in call]


def test_an_image_that_is_here_is_not_pulled_again(engine: DockerEngine, listening: Relay) -> None:
    pin = engine.pin_base(BASE, print)
    engine.import_base(BASE, pin, labels(), print)
    listening.calls.clear()
    first = engine.import_base(BASE, pin, labels(), print)
    assert not [call for call in listening.calls if "/images/create" in call]
    assert first.reference.startswith("sha256:")


def test_an_engine_that_cannot_ask_for_digests_pulls(
    engine: DockerEngine, listening: Relay, without_image: str
) -> None:
    asked = engine.pin_base(without_image, print)
    listening.answers = [("/distribution/", (404, "page not found"))]
    lines: list[str] = []
    assert engine.pin_base(without_image, lines.append) == asked
    assert any("Pulling from" in line for line in lines)


@pytest.mark.parametrize("reference", ["python:no-such-tag", "no-such-name-at-all:1"])
def test_a_name_that_the_registry_does_not_know_is_an_error_and_no_reason_to_bootstrap(
    engine: DockerEngine, listening: Relay, reference: str, bootstraps: Bootstraps
) -> None:
    said = "manifest unknown: manifest unknown"
    listening.answers = [("/distribution/|/images/create", (404, said))]
    with pytest.raises(BaseImageError) as caught:
        engine.pin_base(reference, print)
    assert str(caught.value) == (
        f"the base image {reference} was asked of Docker Hub, which answered: {said}. "
        "Check the spelling and the tag, or log in with `docker login`."
    )
    assert bootstraps.made == []


def test_a_private_registry_is_asked_by_its_name(engine: DockerEngine) -> None:
    registry = os.environ["IMAGEBUILD_TEST_REGISTRY"]
    name = f"{registry}/library/{BASE}"
    assert engine.pin_base(name, print).digest == engine.pin_base(BASE, print).digest
    with pytest.raises(BaseImageError, match=f"was asked of {registry}, which answered: .*unknown"):
        engine.pin_base(f"{registry}/library/python:none", print)
    with pytest.raises(BaseImageError, match=r"was asked of 127\.0\.0\.1:1, which cannot be reached: .*refused"):
        engine.pin_base("127.0.0.1:1/x/y:1", print)


def test_a_name_that_is_none_is_an_error(engine: DockerEngine) -> None:
    with pytest.raises(BaseImageError, match="the base image No Such! was asked of Docker Hub"):
        engine.pin_base("No Such!", print)


def test_an_image_that_is_here_stands_in_for_a_registry_that_is_not_reached(
    engine: DockerEngine, offline: Relay
) -> None:
    offline.answers, refused = [], offline.answers
    pin = engine.pin_base(BASE, print)
    docker.from_env().images.pull(BASE)
    offline.answers = refused
    lines: list[str] = []
    assert engine.pin_base(BASE, lines.append) == pin
    assert lines == [f"{BASE}: Docker Hub does not answer; the image that is here is used"]


def test_without_a_registry_a_base_is_bootstrapped_once_and_announced(
    engine: DockerEngine, offline: Relay, without_image: str, bootstraps: Bootstraps, tmp_path: Path
) -> None:
    lines: list[str] = []
    pin = engine.pin_base(without_image, lines.append)
    assert pin.source == "bootstrap"
    assert lines == [
        f"{without_image}: Docker Hub cannot be reached, so it is made from Debian's own packages",
        "I: unpacking",
    ]
    assert engine.pin_base(without_image, print) == pin
    layer = engine.import_base(without_image, pin, labels(), print)
    assert bootstraps.made == [without_image]
    found = docker.from_env().images.get(layer.reference).attrs["Config"]
    assert found["Cmd"] == ["python3"]
    assert found["Env"] == ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    assert list((tmp_path / "cache" / "bases").glob("*.partial")) == []


def test_a_bootstrapped_base_is_imported_once(
    engine: DockerEngine, offline: Relay, without_image: str, bootstraps: Bootstraps
) -> None:
    pin = engine.pin_base(without_image, print)
    engine.import_base(without_image, pin, labels(), print)
    offline.calls.clear()
    engine.import_base(without_image, pin, labels(), print)
    assert not [call for call in offline.calls if "/images/create" in call]


def test_a_pinned_archive_that_debian_has_no_more_is_an_error_that_says_how_to_go_on(
    engine: DockerEngine, without_image: str, bootstraps: Bootstraps
) -> None:
    with pytest.raises(BaseImageError) as caught:
        engine.import_base(without_image, BasePin(digest=DIGEST, source="bootstrap"), labels(), print)
    said = str(caught.value)
    assert said.startswith(f"{without_image} is pinned to the archive {DIGEST}, but Debian's packages now give sha256:")
    assert said.endswith(f"the Debian index has moved on. Pin anew with --image-lock-upgrade={without_image}.")


def test_threads_that_want_one_archive_make_one(
    engine: DockerEngine, offline: Relay, without_image: str, bootstraps: Bootstraps
) -> None:
    pins: list[BasePin] = []
    threads = [
        threading.Thread(target=lambda: pins.append(engine.pin_base(without_image, lambda _: None))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(pins) == 4
    assert len(bootstraps.made) == len(set(pins)) == 1


def test_without_a_registry_a_base_that_debian_does_not_have_is_an_error(engine: DockerEngine, offline: Relay) -> None:
    with pytest.raises(BaseImageError) as caught:
        engine.pin_base("nvidia/cuda:12", print)
    assert str(caught.value) == (
        f"the base image nvidia/cuda:12 was asked of Docker Hub, which cannot be reached: {NO_HOST}. Only `python:3.X-"
        "slim*` and `debian:*` can be made without a registry; connect, or load the image with `docker load`."
    )


def test_a_pinned_image_that_cannot_be_pulled_is_an_error_that_says_how_to_go_on(
    engine: DockerEngine, offline: Relay
) -> None:
    pin = BasePin(digest=DIGEST, source="registry")
    with pytest.raises(BaseImageError) as caught:
        engine.import_base("python:3.13", pin, labels(), print)
    assert str(caught.value) == (
        f"python:3.13 is pinned to {DIGEST}, which was asked of Docker Hub; it cannot be reached: {NO_HOST}. "
        "Connect, or pin anew with --image-lock-upgrade=python:3.13."
    )


def test_a_local_image_that_is_gone_is_an_error_that_says_how_to_go_on(engine: DockerEngine) -> None:
    with pytest.raises(BaseImageError) as caught:
        engine.import_base("mybase", BasePin(digest=DIGEST, source="local"), labels(), print)
    assert str(caught.value) == (
        f"mybase is pinned to the local image {DIGEST}, which is not in this engine. Build it again, "
        "then run with --image-lock-upgrade=mybase."
    )
