"""A pytest that is killed: nothing of it stays, and the next run is green."""

from __future__ import annotations

import time
from pathlib import Path

import docker
import docker.errors
import pytest
from bases import own_base
from observing import Events, containers_of, wait_until
from running import Running

TIMEOUT = 120
SOON = 5.0
"""Within so many seconds a container ends after its pytest was killed."""

BUILD = """
import pytest
from pytest_imagebuild import Image

image = Image.from_registry("{base}").run_commands("sleep 8; : SLOW {nonce}")

@pytest.mark.image(image)
def test_inside():
    pass
"""

TEST = """
import pathlib
import time
import pytest
from pytest_imagebuild import Image

image = Image.from_registry("{base}").env({{"NONCE": "{nonce}"}})

@pytest.mark.parametrize("number", range(2))
@pytest.mark.image(image)
def test_inside(number):
    pathlib.Path("/begun").touch()
    if pathlib.Path(__file__).with_name("slow").exists():
        time.sleep(100)
"""


def test_killed_in_the_middle_of_a_build(
    project: pytest.Pytester, client: docker.DockerClient, nonce: str, cache_dir: Path
) -> None:
    networks = _networks(client)
    with own_base(nonce, client) as base, Events(cache_dir) as events:
        project.makepyfile(BUILD.format(base=base.reference, nonce=nonce))
        with Running(project.path) as run:
            wait_until("the step to begin", lambda: events.seen("start"))
            run.kill()
            killed = time.time()
        ended = wait_until("the container of the step to end", lambda: events.seen("die"), timeout=20)
        assert ended[0].time - killed < SOON
        assert _step(events) == [], "a layer was made of a step that did not end"

        project.runpytest_subprocess(timeout=TIMEOUT).assert_outcomes(passed=1)

        assert len(_step(events)) == 1
        assert containers_of(client, cache_dir) == []
        assert _unnamed_layers(client, nonce) == []
        assert not _networks(client) - networks


def test_killed_in_the_middle_of_a_test(
    project: pytest.Pytester, client: docker.DockerClient, nonce: str, cache_dir: Path
) -> None:
    networks = _networks(client)
    with own_base(nonce, client) as base, Events(cache_dir) as events:
        project.makepyfile(TEST.format(base=base.reference, nonce=nonce))
        slow = project.path / "slow"
        slow.touch()
        with Running(project.path) as run:
            container = _in_a_test(client, cache_dir)[0]
            run.kill()
            killed = time.time()
        assert _end_of(events, container) - killed < SOON

        slow.unlink()
        project.runpytest_subprocess(timeout=TIMEOUT).assert_outcomes(passed=2)

        assert containers_of(client, cache_dir) == []
        assert _unnamed_layers(client, nonce) == []
        assert not _networks(client) - networks


def test_one_xdist_worker_killed_in_the_middle_of_a_test(
    project: pytest.Pytester, client: docker.DockerClient, nonce: str, cache_dir: Path
) -> None:
    with own_base(nonce, client) as base, Events(cache_dir) as events:
        project.makepyfile(TEST.format(base=base.reference, nonce=nonce))
        slow = project.path / "slow"
        slow.touch()
        with Running(project.path, "-n", "2", "--max-worker-restart", "0") as run:
            containers = _in_a_test(client, cache_dir, workers=2)
            run.kill_child(run.children()[0])
            killed = time.time()
            ended = wait_until("the container of the killed worker to end", lambda: _ended(events, containers))
            assert ended[0].time - killed < SOON
            assert len(ended) == 1, "the container of the other worker ended, too"
            run.kill()
        for container in containers:
            _end_of(events, container)

        slow.unlink()
        project.runpytest_subprocess("-n", "2", timeout=TIMEOUT).assert_outcomes(passed=2)

        assert containers_of(client, cache_dir) == []
        assert _unnamed_layers(client, nonce) == []


def _step(events: Events) -> list[str]:
    return [step for step in events.commits() if "SLOW" in step]


def _in_a_test(client: docker.DockerClient, cache_dir: Path, *, workers: int = 1) -> list[str]:
    """Wait until `workers` containers run a test each; return their ids."""

    def begun() -> list[str]:
        running = [container for container in containers_of(client, cache_dir) if _has_begun(client, container)]
        return running if len(running) == workers else []

    found: list[str] = wait_until("a test to begin in each container", begun)
    return found


def _has_begun(client: docker.DockerClient, container: str) -> bool:
    try:
        return client.containers.get(container).exec_run(["test", "-e", "/begun"]).exit_code == 0
    except docker.errors.APIError:
        return False


def _ended(events: Events, containers: list[str]) -> list[object]:
    return [event for event in events.seen("die") if event.container in containers]


def _end_of(events: Events, container: str) -> float:
    ended = wait_until("the container to end", lambda: _ended(events, [container]), timeout=20)
    return float(ended[0].time)


def _unnamed_layers(client: docker.DockerClient, nonce: str) -> list[str]:
    """Return the ids of labelled images without a tag, which an interrupted commit could leave."""
    images = client.api.images(all=True, filters={"label": ["imagebuild.key"]})
    return [
        image["Id"]
        for image in images
        if not [tag for tag in image.get("RepoTags") or [] if tag != "<none>:<none>"]
        and nonce in image["Labels"]["imagebuild.step"]
    ]


def _networks(client: docker.DockerClient) -> set[str]:
    return {network["Name"] for network in client.api.networks()}
