"""Containers with GPUs: what every engine that runs containers promises, on devices that are harmless files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_imagebuild.engines.protocol import Engine, SessionSpec
from pytest_imagebuild.engines.work import Work
from pytest_imagebuild.errors import EngineError

from .cdi import KIND, daemon_with_cdi, specify
from .conftest import ADDRESSES, BASE, EMBEDDED, REAL, Bench, Sessions, opened, plain_labels, printed

ONE, TWO = f"{KIND}=0", f"{KIND}=1"
WITH = [name for name in REAL if name in {"docker-current", EMBEDDED}]
"""The engines that read specifications: Docker since 25."""

SHOW = "for n in 0 1; do stat -c '%n %F %t:%T' /dev/acme$n 2>/dev/null || echo none; done"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return specify(tmp_path_factory.mktemp("acme"))


@pytest.fixture(scope="module", params=WITH)
def box(request: pytest.FixtureRequest, folder: Path, cache_dir: Path) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMAGEBUILD_CDI_DIRS", str(folder))
        if request.param == EMBEDDED:
            with opened(EMBEDDED, cache_dir) as embedded:
                yield _bench(embedded)
            return
        registry = os.environ.get("IMAGEBUILD_TEST_REGISTRY", "")
        options = ["--registry-mirror", f"http://{registry}", "--insecure-registry", registry] if registry else []
        with daemon_with_cdi(folder, ADDRESSES[request.param], options) as daemon:
            from pytest_imagebuild.engines.docker import DockerEngine

            patch.setenv("DOCKER_HOST", daemon.address)
            docker = DockerEngine(run="gpus", cache_dir=cache_dir)
            yield _bench(docker)
            docker.close()


def _bench(engine: Engine) -> Bench:
    return Bench(engine=engine, base=engine.import_base(BASE, engine.pin_base(BASE, print), plain_labels(), print))


def test_the_devices_of_a_specification_are_the_gpus(box: Bench, folder: Path) -> None:
    inventory = box.engine.gpus()
    assert [(gpu.id, gpu.types, gpu.name) for gpu in inventory.gpus] == [
        (ONE, ("X1",), f"X1 ({ONE})"),
        (TWO, ("X2",), f"X2 ({TWO})"),
    ]
    assert str(folder) in ", ".join(inventory.looked_at)


def test_commands_have_the_devices_that_were_asked_for_and_no_others(box: Bench) -> None:
    assert box.run(SHOW) == "none\nnone\n"
    assert box.run(SHOW, gpus=(ONE,)) == "/dev/acme0 character special file 1:3\nnone\n"
    assert box.run(SHOW, gpus=(TWO, ONE)).splitlines() == [
        "/dev/acme0 character special file 1:3",
        "/dev/acme1 character special file 1:7",
    ]


def test_a_device_works(box: Bench) -> None:
    assert box.run("echo x > /dev/acme0 && ! echo x > /dev/acme1 && echo so", gpus=(ONE, TWO)) == "so\n"


def test_variables_and_files_of_the_specification_are_there(box: Bench) -> None:
    command = 'echo "$ACME_DRIVER ${ACME_0-no} ${ACME_1-no}"; cat /opt/acme/driver.txt; ! echo x > /opt/acme/driver.txt'
    assert box.run(command, gpus=(TWO,)) == "yes no X2\nversion 1\n"


def test_the_variables_of_a_step_win(box: Bench) -> None:
    assert box.run("echo $ACME_0", gpus=(ONE,), environment={"ACME_0": "mine"}) == "mine\n"


def test_a_session_has_its_devices(sessions: Sessions) -> None:
    script = f"{SHOW}; echo $ACME_DRIVER; cat /opt/acme/driver.txt"
    container = sessions(SessionSpec(command=("/bin/sh", "-c", script), gpus=(TWO,)))
    assert printed(container) == "none\n/dev/acme1 character special file 1:7\nyes\nversion 1\n"


def test_nothing_of_a_device_is_in_the_layer(box: Bench) -> None:
    work = Work(commands=("test -c /dev/acme0 && cat /opt/acme/driver.txt && touch /made",), gpus=(ONE,))
    built = box.engine.build(box.base, work, box.labels(), print)
    seen = box.run(
        "test -e /made && echo made; ls -d /dev/acme* /opt/acme/* 2>/dev/null; echo ${ACME_DRIVER-no}", on=built
    )
    if box.engine.name == "docker":
        # What the daemon mounts a file on stays in the layer, empty: `docs/gpus.md`.
        assert box.run("wc -c < /opt/acme/driver.txt", on=built) == "0\n"
        seen = seen.replace("/opt/acme/driver.txt\n", "")
    else:
        assert box.run("test ! -e /opt/acme && echo none", on=built) == "none\n"
    assert seen == "made\nno\n"


def test_a_gpu_that_is_not_there_is_refused(box: Bench) -> None:
    with pytest.raises(EngineError, match=f"has no GPU 'acme.com/gpu=7'; it has {ONE}, {TWO}"):
        box.run("true", gpus=("acme.com/gpu=7",))
