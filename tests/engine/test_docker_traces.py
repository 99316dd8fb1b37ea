"""The Docker engine leaves no trace of what a step was lent, and changes nothing that it was not told to change."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker
import docker.errors
import pytest

from pytest_imagebuild.engines import generations
from pytest_imagebuild.engines.docker import sweep
from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.layers import BasePin, BuiltLayer, LayerLabels
from pytest_imagebuild.engines.protocol import Engine
from pytest_imagebuild.engines.work import ConfigChange, Work

from .conftest import ADDRESSES, REAL, RUN, Bench, daemon, new_key, opened

SECRET = "xyzzy-4f1d9c"


@pytest.fixture(scope="session", params=[name for name in REAL if name in ADDRESSES])
def real(request: pytest.FixtureRequest, cache_dir: Path) -> Iterator[Engine]:
    """Every Docker engine."""
    with opened(request.param, cache_dir) as engine:
        yield engine


@pytest.fixture
def client(box: Bench, request: pytest.FixtureRequest) -> docker.DockerClient:
    """Talk to the daemon behind the engine's back."""
    return daemon(request.node.callspec.params["real"])


@pytest.fixture
def api(client: docker.DockerClient) -> docker.APIClient:
    return client.api


@pytest.fixture
def parent(box: Bench, api: docker.APIClient) -> Iterator[BuiltLayer]:
    """Return a layer of a base whose configuration sets everything that there is."""
    name = f"imagebuild-test/full:{new_key()}"
    settings = [
        "USER nobody",
        "WORKDIR /srv/task",
        'ENV WITH="a b" QUOTED="it\'s \\"x\\"" EMPTY=',
        'ENTRYPOINT ["/bin/sh", "-c"]',
        'CMD ["echo default"]',
        "EXPOSE 8000",
        "VOLUME /data",
        "STOPSIGNAL SIGINT",
        "LABEL mine=kept",
        'HEALTHCHECK --interval=1s CMD ["false"]',
        'SHELL ["/bin/bash", "-c"]',
    ]
    dockerfile = "\n".join([f"FROM {box.base.reference}", *settings])
    list(api.build(fileobj=io.BytesIO(dockerfile.encode()), tag=name, rm=True, forcerm=True))
    pin = box.engine.pin_base(name, print)
    labels = LayerLabels(key=new_key(), parent="", generation="", run=RUN)
    yield box.engine.import_base(name, pin, labels, print)
    api.remove_image(name, force=True)


def config(api: docker.APIClient, layer: BuiltLayer) -> dict[str, Any]:
    """Return the configuration without our labels; null and empty are the same."""
    found = dict(api.inspect_image(layer.reference)["Config"])  # type: ignore[no-untyped-call]
    labels = {name: value for name, value in (found["Labels"] or {}).items() if not name.startswith("imagebuild.")}
    # What the daemon says of the container that an image was made from, not of the image.
    told = {name: value for name, value in found.items() if name not in ("Hostname", "Image")}
    return {name: value for name, value in {**told, "Labels": labels}.items() if value not in (None, [], {}, "", False)}


def test_a_base_keeps_its_configuration(api: docker.APIClient, parent: BuiltLayer) -> None:
    found = config(api, parent)
    assert found["User"] == "nobody"
    assert found["WorkingDir"] == "/srv/task"
    assert found["Entrypoint"] == ["/bin/sh", "-c"]
    assert found["Cmd"] == ["echo default"]
    assert found["Labels"] == {"mine": "kept"}
    assert "WITH=a b" in found["Env"]
    assert found["Healthcheck"]["Test"] == ["CMD", "false"]


def test_a_step_keeps_the_configuration_of_its_parent(box: Bench, api: docker.APIClient, parent: BuiltLayer) -> None:
    before = config(api, parent)
    assert config(api, box.build("true", on=parent)) == before
    assert config(api, box.build(on=parent, files=(FileEntry(path="/x", mode=0o644, data=b""),))) == before
    assert config(api, box.build("true", on=box.base)) == config(api, box.base)


def test_a_change_of_the_configuration_changes_that_and_no_more(
    box: Bench, api: docker.APIClient, parent: BuiltLayer
) -> None:
    before = config(api, parent)
    change = ConfigChange(
        environment=(("WITH", "c d"), ("NEW", "1\n2")), workdir="sub", command=("x", "y z"), entrypoint=("/init",)
    )
    after = config(api, box.build(on=parent, config=change))
    environment = [pair for pair in before["Env"] if not pair.startswith("WITH=")]
    assert sorted(after.pop("Env")) == sorted([*environment, "WITH=c d", "NEW=1\n2"])
    assert (after.pop("WorkingDir"), after.pop("Cmd"), after.pop("Entrypoint")) == (
        "/srv/task/sub",
        ["x", "y z"],
        ["/init"],
    )
    assert after == {name: value for name, value in before.items() if name in after}


def test_a_command_and_an_entrypoint_can_be_taken_away(box: Bench, api: docker.APIClient, parent: BuiltLayer) -> None:
    after = config(api, box.build(on=parent, config=ConfigChange(command=(), entrypoint=())))
    assert "Cmd" not in after
    assert "Entrypoint" not in after
    assert "Cmd" not in config(api, box.build(on=parent, config=ConfigChange(command=())))


@pytest.mark.parametrize("commands", [("id -u",), ()])
def test_a_container_of_a_step_runs_what_one_of_its_parent_runs(
    box: Bench, client: docker.DockerClient, parent: BuiltLayer, commands: tuple[str, ...]
) -> None:
    layer = box.build(*commands, on=parent)
    assert box.lines == ["0"] * len(commands), "steps run as root"
    assert client.containers.run(layer.reference, remove=True) == b"default\n"
    assert client.containers.run(layer.reference, ["id -un; pwd"], remove=True) == b"nobody\n/srv/task\n"


def test_a_step_runs_in_the_working_directory_of_its_parent(box: Bench, parent: BuiltLayer) -> None:
    box.build("pwd", on=parent)
    assert box.lines == ["/srv/task"]


def test_what_is_lent_to_a_step_is_nowhere_in_the_image(box: Bench, api: docker.APIClient) -> None:
    secret = SECRET.encode()
    layer = box.build(
        f'test "$TOKEN" = {SECRET} && grep -q {SECRET} /lent/tool /dev/shm/file',
        "touch /made",
        environment={"TOKEN": SECRET},
        tools=(
            FileEntry(path="/lent/tool", mode=0o755, data=secret),
            FileEntry(path="/dev/shm/file", mode=0o600, data=secret + b"\n"),
        ),
    )
    described = json.dumps([api.inspect_image(layer.reference), api.history(layer.reference)])  # type: ignore[no-untyped-call]
    assert SECRET not in described
    saved = b"".join(api.get_image(layer.reference))
    assert secret not in saved
    assert changed_paths(saved) == ["made"]


def test_a_layer_holds_what_its_files_and_commands_made(box: Bench, api: docker.APIClient) -> None:
    layer = box.build("echo 1 > /srv/made", files=(FileEntry(path="/srv/new/file", mode=0o644, data=b""),))
    saved = b"".join(api.get_image(layer.reference))
    assert changed_paths(saved) == ["srv", "srv/made", "srv/new", "srv/new/file"]


def changed_paths(saved: bytes) -> list[str]:
    """Return what the last layer of a saved image holds."""
    with tarfile.open(fileobj=io.BytesIO(saved)) as image:
        manifest = json.load(image.extractfile("manifest.json"))  # type: ignore[arg-type]
        last = image.extractfile(manifest[0]["Layers"][-1])
        assert last is not None
        with tarfile.open(fileobj=io.BytesIO(last.read())) as layer:
            return sorted(member.name.rstrip("/") for member in layer if member.name not in (".", "./"))


def test_a_replaced_image_is_there_for_runs_that_use_it_and_swept_when_it_is_old(
    box: Bench, api: docker.APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_key()
    first = box.build("echo 1 > /x", key=key)
    time.sleep(1.1)
    second = box.build("echo 2 > /x", key=key)
    monkeypatch.setattr(sweep, "_untagged", only({first.reference}))
    monkeypatch.setattr(sweep, "replaced", lambda *_: [])
    now = second.created + generations._REPLACED_SECONDS
    monkeypatch.setattr(generations, "time", SimpleNamespace(time=lambda: now))
    box.engine.sweep()
    assert box.run("cat /x", on=first) == "1\n", "only what replaced it is young enough"
    now += 1
    box.engine.sweep({key: second.created})
    assert box.run("cat /x", on=first) == "1\n", "a run that goes on has claimed it before"
    assert not [one for one in box.engine.remnants({key: second.created}) if first.reference in one.name]
    assert [one for one in box.engine.remnants({key: second.created + 2}) if first.reference in one.name]
    end = time.monotonic() + 30
    while not is_gone(api, first.reference) and time.monotonic() < end:
        box.engine.sweep()
        time.sleep(0.1)
    assert is_gone(api, first.reference)
    above = box.build("true", on=second)
    third = box.build("echo 3 > /x", key=key)
    assert box.run("cat /x", on=above) == "2\n"
    assert box.run("cat /x", on=third) == "3\n"
    assert box.engine.find(key) == third


def is_gone(api: docker.APIClient, reference: str) -> bool:
    """Say whether there is no such image. The container that a step ran in goes beside what comes next."""
    try:
        api.inspect_image(reference)  # type: ignore[no-untyped-call]
    except docker.errors.ImageNotFound:
        return True
    return False


def only(wanted: set[str]) -> Callable[[list[dict[str, Any]], generations.Claims], list[dict[str, Any]]]:
    """Let a sweep see no images without a name but these: others may be those of other tests."""
    untagged = sweep._untagged
    return lambda images, claimed: [image for image in untagged(images, claimed) if image["Id"] in wanted]


def test_an_image_that_the_user_gave_a_name_is_not_removed(box: Bench, api: docker.APIClient) -> None:
    key = new_key()
    first = box.build("echo 1 > /x", key=key)
    api.tag(first.reference, "imagebuild-test/mine", key)
    box.build("echo 2 > /x", key=key)
    assert api.inspect_image(f"imagebuild-test/mine:{key}")["Id"] == first.reference  # type: ignore[no-untyped-call]
    api.remove_image(f"imagebuild-test/mine:{key}")


def test_an_image_that_a_user_built_on_a_layer_is_no_layer(box: Bench, api: docker.APIClient) -> None:
    layer = box.build("true")
    name = f"imagebuild-test/above:{new_key()}"
    dockerfile = f"FROM {layer.reference}\nRUN echo 1 > /above\n"
    list(api.build(fileobj=io.BytesIO(dockerfile.encode()), tag=name, rm=True, forcerm=True))
    assert box.engine.layers()[layer.labels.key] == layer
    api.remove_image(name)


def test_a_container_that_a_user_started_of_a_layer_is_not_swept(box: Bench, client: docker.DockerClient) -> None:
    layer = box.build("true")
    container = client.containers.run(layer.reference, ["sleep", "100"], detach=True)
    assert box.engine.sweep() == 0
    container.reload()
    assert container.status == "running"
    container.remove(force=True)


def test_a_layer_that_was_removed_meanwhile_is_an_error_that_says_so(box: Bench) -> None:
    from pytest_imagebuild.errors import EngineError

    labels = LayerLabels(key="gone", parent="", generation="", run=RUN)
    gone = BuiltLayer(labels=labels, reference="sha256:" + "0" * 64, size=0, created=0)
    with pytest.raises(EngineError, match=r"the image sha256:0+ is gone: something removed it; run again to build it"):
        box.engine.run(gone, Work(commands=("true",)), print)


def test_a_local_image_is_a_base_of_its_own(box: Bench, api: docker.APIClient) -> None:
    name = f"imagebuild-test/local:{new_key()}"
    repository, _, tag = name.partition(":")
    api.tag(box.base.reference, repository, tag)
    pin = box.engine.pin_base(name, print)
    assert pin == BasePin(digest=box.base.reference, source="local")
    api.remove_image(name)
