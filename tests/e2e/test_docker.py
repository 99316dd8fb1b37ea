"""What only a Docker engine has: an API that goes away, and objects of testcontainers."""

from __future__ import annotations

from pathlib import Path

import pytest
from docker_engine import Recorder
from engines import EngineUnderTest, only
from inner import SLEEPS, Inner, failure_of, outcomes
from observing import wait_until

pytestmark = only("docker")

NATIVE = {
    "pytest.ini": "[pytest]\n",
    "test_native.py": """
        import testcontainers.core.container
        from pytest_imagebuild import Image


        def test_native(image_container):
            service = image_container(Image.from_registry("python:3.13-slim-trixie"), command=["sleep", "60"])
            assert isinstance(service.native, testcontainers.core.container.DockerContainer)
            assert service.native.get_wrapped_container().status in ("created", "running")
        """,
}


def test_an_api_that_goes_away_fails_the_running_test_and_the_rest(tmp_path: Path, engine: EngineUnderTest) -> None:
    project = Inner(tmp_path, engine).write(SLEEPS)
    with Recorder() as proxy:
        running = project.begin("-s", "-v", DOCKER_HOST=proxy.address)
        wait_until("the test to run", lambda: "now it sleeps" in running.out(), timeout=120)
    ran = running.wait(60)
    assert outcomes(ran)["test_later"] == "ERROR"
    assert "The worker in the container is gone." in failure_of(ran, "test_sleeps")
    assert "Look at `docker info`, then run again." in failure_of(ran, "test_later")
    assert "Traceback" not in ran.text
    assert ran.code == pytest.ExitCode.TESTS_FAILED


def test_the_native_object_of_a_service_is_the_container_of_testcontainers(
    tmp_path: Path, engine: EngineUnderTest
) -> None:
    ran = Inner(tmp_path, engine).write(NATIVE).run("-v", "-rA", "-W", "error")
    assert outcomes(ran) == {"test_native": "PASSED"}, ran.text
