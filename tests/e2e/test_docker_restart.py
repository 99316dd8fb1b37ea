"""A Docker daemon that is stopped, killed and started again under a run, and one whose disk is full."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence

import pytest
from docker_engine import DockerUnderTest
from engines import EngineUnderTest, only
from inner import Inner
from observing import wait_until
from own_docker import OwnDocker
from running import Running

pytestmark = only("docker")

TIMEOUT = 120
PATIENCE = 60

PROJECT = """
import os
import pathlib
import time
import pytest
from pytest_imagebuild import Image, Secret

# What a step and a test do with values of secrets is in no key: the runs of one project use the same image.
seconds = [Secret.from_local_environ(["BUILD_SECONDS"])]
image = Image.from_registry("python:3.13-slim-trixie").run_commands("{step}", secrets=seconds)

@pytest.mark.parametrize("number", range(3))
@pytest.mark.image(image, secrets=[Secret.from_local_environ(["TEST_SECONDS"])])
def test_inside(number):
    pathlib.Path("/testing").touch()
    if number == 0:
        time.sleep(int(os.environ["TEST_SECONDS"]))
"""
SLOW = "touch /building; sleep $BUILD_SECONDS"
LOOK = "Look at `docker info`, then run again."


@pytest.fixture(scope="module")
def daemon() -> Iterator[OwnDocker]:
    with OwnDocker(mebibytes=600) as daemon, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", daemon.address)
        patch.setenv("BUILD_SECONDS", "0")
        patch.setenv("TEST_SECONDS", "0")
        yield daemon


@pytest.fixture(scope="module")
def engine(daemon: OwnDocker, tmp_path_factory: pytest.TempPathFactory) -> EngineUnderTest:
    """Return the engine of a daemon that nobody else uses; it has the base image."""
    assert daemon.address
    engine = DockerUnderTest(tmp_path_factory.mktemp("imagebuild-cache"))
    ran = Inner(tmp_path_factory.mktemp("warm"), engine).write({"test_it.py": PROJECT.format(step=SLOW)}).run()
    assert "3 passed" in ran.out, ran.text
    return engine


End = Callable[[OwnDocker], None]


def wait_for(path: str, engine: EngineUnderTest, run: Running) -> None:
    def begun() -> bool:
        return any(engine.has_file(container, path) for container in engine.containers())

    wait_until(f"{path} in a container", run.while_alive(begun), timeout=PATIENCE)


def restart(end: End, daemon: OwnDocker, run: Running) -> None:
    """Let the daemon end and start while the run stands still, so that the run finds it started again."""
    run.send(signal.SIGSTOP)
    end(daemon)
    daemon.start()
    run.send(signal.SIGCONT)


def is_green_after_all(project: pytest.Pytester, engine: EngineUnderTest, daemon: OwnDocker, text: str) -> None:
    project.runpytest_subprocess(timeout=TIMEOUT).assert_outcomes(passed=3)
    assert engine.remains(text) == []
    wait_until("the processes of the containers to end", lambda: not daemon.processes(), timeout=20)


def of_each(output: str) -> Sequence[str]:
    """Return what is told of each test that has not passed."""
    assert "Traceback" not in output
    parts = [part.partition("___\n")[2] for part in output.split("\n___")[1:]]
    return [part.partition("\n===")[0].partition("\nimagebuild (")[0] for part in parts]


def test_a_daemon_that_is_restarted_during_a_step_is_an_error_that_names_the_step(
    project: pytest.Pytester, engine: EngineUnderTest, daemon: OwnDocker, nonce: str
) -> None:
    file = project.makepyfile(test_it=PROJECT.format(step=f": {nonce}; {SLOW}"))
    with Running(project.path, environment={"BUILD_SECONDS": "600"}) as run:
        wait_for("/building", engine, run)
        restart(OwnDocker.stop, daemon, run)
        code, output = run.wait(TIMEOUT), run.output

    assert code == pytest.ExitCode.TESTS_FAILED, output
    told = of_each(output)
    assert len(told) == 3, output
    for text in told:
        assert text.startswith(f'{file}:9: run_commands(": {nonce}'), output
        assert text.splitlines()[2:] == [
            "  exit code: 137",
            "  It was killed (SIGKILL): for want of memory, or because the engine was stopped. Run again.",
        ]
    assert engine.layers(nonce) == {}, "a layer was made of a step that did not end"
    is_green_after_all(project, engine, daemon, nonce)


@pytest.mark.parametrize("end", [OwnDocker.stop, OwnDocker.kill], ids=["stopped", "killed"])
def test_a_daemon_that_is_restarted_during_a_test_fails_this_one_and_the_rest_passes(
    project: pytest.Pytester, engine: EngineUnderTest, daemon: OwnDocker, end: End
) -> None:
    project.makepyfile(test_it=PROJECT.format(step=SLOW))
    with Running(project.path, environment={"TEST_SECONDS": "600"}) as run:
        wait_for("/testing", engine, run)
        restart(end, daemon, run)
        code, output = run.wait(TIMEOUT), run.output

    assert code == pytest.ExitCode.TESTS_FAILED, output
    (told,) = of_each(output)
    stopped = ["The worker in the container was killed by SIGTERM."]
    killed = ["The worker in the container is gone.", f"The connection to Docker was lost. {LOOK}"]
    assert told.splitlines() == (stopped if end is OwnDocker.stop else killed)
    assert "1 failed, 2 passed" in output
    is_green_after_all(project, engine, daemon, SLOW)


def test_a_daemon_that_is_gone_is_an_error_of_each_test_until_it_is_started(
    project: pytest.Pytester, engine: EngineUnderTest, daemon: OwnDocker
) -> None:
    project.makepyfile(test_it=PROJECT.format(step=SLOW))
    with Running(project.path, environment={"TEST_SECONDS": "600"}) as run:
        wait_for("/testing", engine, run)
        daemon.stop()
        code, output = run.wait(TIMEOUT), run.output
    daemon.start()

    assert code == pytest.ExitCode.TESTS_FAILED, output
    *errors, failure = of_each(output)
    assert len(errors) == 2
    for error in errors:
        assert error.startswith("Docker was lost while it should start a session container: "), output
        assert error.endswith(LOOK), output
    assert failure.startswith("The worker in the container "), output
    is_green_after_all(project, engine, daemon, SLOW)


FULL = """
from pytest_imagebuild import Image

image = Image.from_registry("python:3.13-slim-trixie").run_commands(": {nonce}; head -c {size} /dev/urandom > /many")

def test_image(image_build):
    image_build(image)
"""
NO_ROOM = "no space left on device"
FREE = "Free some: `imagebuild prune` removes what no image needs, `docker system prune` what Docker can spare."


@pytest.mark.parametrize(
    ("left", "size", "lines"),
    [
        pytest.param(
            *(0, 1, [f"*Docker refused to create a container to work in: *{NO_ROOM}. {FREE}"]),
            id="for the container",
        ),
        pytest.param(
            *(20, 32_000_000, ["*test_full.py:3: run_commands(*) failed", f"*head: *{NO_ROOM.capitalize()}"]),
            id="for what the step writes",
        ),
        pytest.param(
            *(40, 32_000_000, [f"*Docker refused to commit a layer: *{NO_ROOM}. {FREE}"]),
            id="for the layer",
        ),
    ],
)
def test_too_little_room_on_the_disk_of_docker_is_told_and_leaves_no_layer(
    project: pytest.Pytester,
    engine: EngineUnderTest,
    daemon: OwnDocker,
    nonce: str,
    left: int,
    size: int,
    lines: list[str],
) -> None:
    project.makepyfile(test_full=FULL.format(nonce=nonce, size=size))
    with daemon.filled(but=left):
        result = project.runpytest_subprocess(timeout=TIMEOUT)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(lines)
    assert "Traceback" not in result.stdout.str()
    assert engine.layers(nonce) == {}
    assert engine.remains(nonce) == []

    project.runpytest_subprocess(timeout=TIMEOUT).assert_outcomes(passed=1)

    assert engine.remains(nonce) == []
    engine.remove_layers(nonce)


def test_too_little_room_for_the_project_on_the_disk_of_docker_is_told_and_leaves_nothing(
    project: pytest.Pytester, engine: EngineUnderTest, daemon: OwnDocker
) -> None:
    project.makepyfile(test_it=PROJECT.format(step=SLOW))
    large = project.path / "large.bin"
    large.write_bytes(bytes(30_000_000))
    with daemon.filled(but=5):
        result = project.runpytest_subprocess(timeout=TIMEOUT)
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines([f"*No space left on device: '{large}'. The engine's disk is full. Free some: *"])
    assert "Traceback" not in result.stdout.str()
    is_green_after_all(project, engine, daemon, SLOW)
