"""Housekeeping on the Docker engine, seen from the daemon."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import docker
import docker.errors
import pytest
import requests

from pytest_imagebuild.engines.docker import DockerEngine, pulled
from pytest_imagebuild.engines.docker.removing import remove_image
from pytest_imagebuild.engines.layers import BasePin, BuiltLayer, LayerLabels
from pytest_imagebuild.engines.stored import StoredLayer
from pytest_imagebuild.engines.work import Work

from .conftest import ADDRESSES, RUN, daemon, leftovers, new_key

MEBIBYTE = 1024 * 1024
REGISTRY = "127.0.0.1:5000"
HAVE_IMAGE = "python:3.13-slim-trixie"


@pytest.fixture(params=list(ADDRESSES))
def address(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    if ADDRESSES[name]:
        monkeypatch.setenv("DOCKER_HOST", ADDRESSES[name])
    return name


@pytest.fixture
def api(address: str) -> docker.APIClient:
    return daemon(address).api


@pytest.fixture
def engine(address: str, tmp_path: Path) -> Iterator[DockerEngine]:
    engine = DockerEngine(run=RUN, cache_dir=tmp_path)
    engine.capabilities()
    yield engine
    engine.close()
    leftovers(address, RUN)


@pytest.fixture
def reference(api: docker.APIClient) -> Iterator[str]:
    """Return an image of a registry that the daemon does not have, of about 2 MiB of its own."""
    name = f"{REGISTRY}/prune/{uuid.uuid4().hex}"
    dockerfile = f"FROM {HAVE_IMAGE}\nRUN head -c {2 * MEBIBYTE} /dev/urandom > /filled\n"
    list(api.build(fileobj=io.BytesIO(dockerfile.encode()), tag=f"{name}:1", rm=True, forcerm=True))
    list(api.push(name, tag="1", stream=True))
    api.remove_image(f"{name}:1")
    yield f"{name}:1"
    for image in api.images():
        if any(text.startswith(name) for text in (*(image["RepoTags"] or ()), *(image["RepoDigests"] or ()))):
            api.remove_image(image["Id"], force=True)


def base(engine: DockerEngine, reference: str, pin: BasePin | None = None) -> BuiltLayer:
    labels = LayerLabels(key=new_key(), parent="", generation="", run=RUN, step=f"from {reference}")
    return engine.import_base(reference, pin or engine.pin_base(reference, print), labels, print)


def item(engine: DockerEngine, layer: BuiltLayer) -> StoredLayer:
    return next(one for one in engine.stored() if one.built.labels.key == layer.labels.key)


def disk(api: docker.APIClient) -> int:
    return int(api.df()["LayersSize"])


def digests(api: docker.APIClient, reference: str) -> list[str]:
    repository = reference.rpartition(":")[0]
    return [name for image in api.images() for name in image["RepoDigests"] or () if name.startswith(f"{repository}@")]


def test_a_base_that_was_pulled_for_a_layer_goes_with_it(
    engine: DockerEngine, api: docker.APIClient, reference: str
) -> None:
    before = disk(api)
    layer = base(engine, reference)
    assert len(digests(api, reference)) == 1
    freed = engine.remove(item(engine, layer))
    assert freed == layer.size
    assert digests(api, reference) == []
    assert disk(api) == pytest.approx(before, abs=MEBIBYTE // 10)


def test_a_base_that_the_user_pulled_stays(engine: DockerEngine, api: docker.APIClient, reference: str) -> None:
    name, _, tag = reference.rpartition(":")
    api.pull(name, tag=tag)
    pin = BasePin(digest=digests(api, reference)[0].partition("@")[2], source="registry")
    layer = base(engine, reference, pin)
    assert item(engine, layer).own_size == 0
    assert engine.remove(item(engine, layer)) == 0
    assert len(digests(api, reference)) == 1
    assert api.images(name)[0]["RepoTags"] == [reference]


def test_a_pulled_base_to_which_the_user_gave_a_name_stays(
    engine: DockerEngine, api: docker.APIClient, reference: str
) -> None:
    layer = base(engine, reference)
    api.tag(digests(api, reference)[0], f"{REGISTRY}/prune/mine", "1")
    assert engine.remove(item(engine, layer)) == 0
    assert api.images(f"{REGISTRY}/prune/mine")
    api.remove_image(f"{REGISTRY}/prune/mine:1")


def test_a_base_on_which_two_layers_stand_counts_once_and_goes_with_the_last(
    engine: DockerEngine, api: docker.APIClient, reference: str
) -> None:
    both = [base(engine, reference), base(engine, reference)]
    assert sorted(item(engine, layer).own_size for layer in both) == [0, both[0].size]
    assert engine.remove(item(engine, both[1])) == 0
    assert len(digests(api, reference)) == 1
    assert item(engine, both[0]).own_size == both[0].size
    assert engine.remove(item(engine, both[0])) == both[0].size
    assert digests(api, reference) == []


def test_a_pulled_base_on_which_no_layer_came_to_stand_is_a_remnant_once_it_is_old(
    engine: DockerEngine, api: docker.APIClient, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = base(engine, reference)
    api.remove_image(f"imagebuild/layer:{layer.labels.key}", noprune=True)
    name = digests(api, reference)[0]

    def found() -> list[str]:
        return [remnant.name for remnant in engine.remnants() if name in remnant.name]

    assert found() == [], "it may be just about to be used"
    monkeypatch.setattr(pulled, "_SETTLED_SECONDS", -1)
    remnant = next(one for one in engine.remnants() if name in one.name)
    assert engine.remove(remnant) == remnant.size
    assert digests(api, reference) == []
    assert found() == []


def test_a_layer_that_an_image_of_the_user_was_made_from_stays(engine: DockerEngine, api: docker.APIClient) -> None:
    layer = base(engine, HAVE_IMAGE)
    container = api.create_container(layer.reference, ["true"])["Id"]
    api.commit(container, "prune-mine", "1")
    api.remove_container(container)
    assert engine.remove(item(engine, layer)) is None
    assert engine.find(layer.labels.key) == layer
    api.remove_image("prune-mine:1")
    assert engine.remove(item(engine, layer)) is not None


def test_a_layer_with_another_name_loses_ours_and_frees_nothing(engine: DockerEngine, api: docker.APIClient) -> None:
    parent = base(engine, HAVE_IMAGE)
    labels = LayerLabels(key=new_key(), parent=parent.labels.key, generation="", run=RUN)
    layer = engine.build(parent, Work(commands=(f"head -c {MEBIBYTE} /dev/urandom > /x",)), labels, print)
    api.tag(layer.reference, "prune-named", "1")
    assert engine.remove(item(engine, layer)) == 0
    assert engine.find(layer.labels.key) is None
    assert api.images("prune-named")
    api.remove_image("prune-named:1")


@pytest.mark.parametrize("running", [True, False])
def test_a_layer_of_which_there_is_any_container_stays(
    engine: DockerEngine, api: docker.APIClient, running: bool
) -> None:
    layer = base(engine, HAVE_IMAGE)
    container = api.create_container(layer.reference, ["sleep", "60"])["Id"]
    if running:
        api.start(container)
    try:
        assert item(engine, layer).in_use
        assert engine.remove(item(engine, layer)) is None
        assert engine.find(layer.labels.key) == layer
    finally:
        api.remove_container(container, force=True)


def test_what_a_dead_run_left_is_a_remnant_with_its_size(
    engine: DockerEngine, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = DockerEngine(run=f"{RUN}-dead", cache_dir=tmp_path / "other")
    parent = base(dead, HAVE_IMAGE)
    labels = LayerLabels(key=new_key(), parent=parent.labels.key, generation="", run=f"{RUN}-dead", namespace="Gone-1")
    work = Work(commands=(f"head -c {MEBIBYTE} /dev/urandom > /x",))
    dead.build(parent, work, labels, print)
    name = f"imagebuild/run-gone-1:{labels.key}"
    assert [one for one in engine.remnants() if name in one.name] == [], "its run lives"
    dead.close()
    (remnant,) = [one for one in engine.remnants() if name in one.name]
    assert remnant.what == "a dead run's layer"
    assert remnant.size == pytest.approx(MEBIBYTE, rel=0.01)
    assert engine.remove(remnant) == remnant.size
    leftovers(address, f"{RUN}-dead")


def test_what_docker_save_wrote_is_found_by_its_name_else_by_the_given_one(
    engine: DockerEngine, api: docker.APIClient, tmp_path: Path
) -> None:
    image = api.inspect_image(HAVE_IMAGE)["Id"]  # type: ignore[no-untyped-call]
    name = f"prune-saved/{new_key()}"
    api.tag(image, name, "a")
    archive, unnamed = tmp_path / "saved.tar", tmp_path / "unnamed.tar"
    for path, what in ((archive, f"{name}:a"), (unnamed, image)):
        with path.open("wb") as file:
            file.writelines(api.get_image(what))
    api.remove_image(f"{name}:a")
    assert engine.load(archive, f"{name}:unused", print) == (f"{name}:a",)
    assert engine.load(unnamed, f"{name}:b", print) == (f"{name}:b",)
    for tag in ("a", "b"):
        assert engine.pin_base(f"{name}:{tag}", print) == BasePin(digest=image, source="local")
        api.remove_image(f"{name}:{tag}")


def test_images_that_several_processes_remove_at_once_go_without_an_error(api: docker.APIClient, address: str) -> None:
    clients = [daemon(address).api for _ in range(6)]
    for _ in range(4):
        lines = [f"FROM {HAVE_IMAGE}", *(f"ENV N{number}={uuid.uuid4().hex}" for number in range(10))]
        built = list(api.build(fileobj=io.BytesIO("\n".join(lines).encode()), rm=True, decode=True))
        image = next(line["aux"]["ID"] for line in built if "aux" in line)
        with ThreadPoolExecutor(len(clients)) as pool:
            results = list(pool.map(remove_image, clients, [image] * len(clients)))
        assert True in results
        assert image not in {found["Id"] for found in api.images(all=True)}


@pytest.mark.parametrize(
    ("answers", "result"), [([500, 404], None), ([500, 500, 409], False), ([500, 0], True), ([500] * 10, False)]
)
def test_a_removal_that_met_another_one_is_tried_again(answers: list[int], result: bool | None) -> None:
    def answer(_name: str, *, force: bool) -> None:
        if code := answers.pop(0):
            response = requests.Response()
            response.status_code = code
            raise (docker.errors.ImageNotFound if code == 404 else docker.errors.APIError)("no", response=response)

    api = mock.Mock(remove_image=answer)
    assert remove_image(api, "image") is result
    assert answers == []
