"""How the Docker engine finds its daemon, loses it, and what it asks of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import ssl
import stat
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer, Reaper
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID

from pytest_imagebuild.engines.choose import choose_engine
from pytest_imagebuild.engines.docker import DockerEngine
from pytest_imagebuild.engines.layers import BuiltLayer, LayerLabels
from pytest_imagebuild.engines.memory import MemoryEngine
from pytest_imagebuild.engines.protocol import SessionSpec
from pytest_imagebuild.engines.services import ServiceSpec
from pytest_imagebuild.engines.work import CommandFailed, Work
from pytest_imagebuild.errors import EngineError, EngineUnavailableError

from .conftest import ADDRESSES, Bench, leftovers
from .conftest import RUN as CONTRACT
from .daemons import Relay, relay

RUN = f"{CONTRACT}-daemon"
BASE = "python:3.13-slim-trixie"
SECONDS = 30


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the home folder of a user without any Docker."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "XDG_RUNTIME_DIR", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / ".docker"))
    return tmp_path


def unavailable(tmp_path: Path) -> str:
    began = time.monotonic()
    with pytest.raises(EngineUnavailableError) as caught:
        DockerEngine(run="r", cache_dir=tmp_path).capabilities()
    assert time.monotonic() - began < 10
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_socket_that_is_not_there(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{nowhere}/none.sock")
    said = unavailable(nowhere)
    assert said.startswith(f"Docker does not answer at unix://{nowhere}/none.sock: there is no such socket. ")
    assert "nstall it: " in said or "tart it: " in said


def test_a_socket_that_nobody_listens_at(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(nowhere / "dead.sock"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{nowhere}/dead.sock")
    assert "nothing listens there" in unavailable(nowhere)


def test_a_port_that_nobody_listens_at(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    assert unavailable(nowhere).startswith("Docker does not answer at tcp://127.0.0.1:1: nothing listens there. ")


def test_a_socket_that_the_user_may_not_open(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied", address)

    # Root, who may run this, may open any socket.
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{nowhere}/closed.sock")
    assert "refuses this user: permission denied. To be let in: `sudo usermod -aG docker" in unavailable(nowhere)


def test_a_server_that_is_silent(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pytest_imagebuild.engines.docker.connection as module

    monkeypatch.setattr(module, "_FIRST_ANSWER_SECONDS", 0.5)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(nowhere / "silent.sock"))
        silent.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{nowhere}/silent.sock")
        assert "did not answer as Docker does: " in unavailable(nowhere)


def test_an_address_over_ssh_gets_the_command_that_helps(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "ssh://me@far")
    assert "`ssh -fNL /tmp/docker.sock:/var/run/docker.sock me@far`" in unavailable(nowhere)


def test_auto_tells_what_it_tried(nowhere: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(EngineUnavailableError) as caught:
        choose_engine("auto", run="r", cache_dir=file / "cache")
    first, docker, embedded = str(caught.value).splitlines()
    assert first == "no engine can be used:"
    assert docker.startswith("  docker: Docker does not answer at tcp://127.0.0.1:1")
    assert embedded.startswith("  embedded: ")
    assert f"{file}/cache" in embedded


def test_auto_takes_the_embedded_engine_where_no_docker_answers(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    engine = choose_engine("auto", run=RUN, cache_dir=tmp_path)
    assert engine.name == "embedded"
    engine.close()


def test_auto_takes_docker_where_it_answers(tmp_path: Path) -> None:
    engine = choose_engine("auto", run=RUN, cache_dir=tmp_path)
    assert isinstance(engine, DockerEngine)
    engine.close()


def test_an_engine_is_chosen_by_name(tmp_path: Path) -> None:
    assert isinstance(choose_engine("memory", run="r", cache_dir=tmp_path), MemoryEngine)
    with pytest.raises(
        EngineError, match="there is no image engine named 'dokcer'; choose one of auto, docker, embedded, memory"
    ):
        choose_engine("dokcer", run="r", cache_dir=tmp_path)


def context(home: Path, name: str, host: str) -> None:
    folder = home / ".docker" / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    folder.mkdir(parents=True)
    endpoints = {"docker": {"Host": host, "SkipTLSVerify": False}}
    (home / ".docker" / "config.json").write_text("{}")
    (folder / "meta.json").write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": endpoints}))


def test_the_current_context_is_used(nowhere: Path, base: BuiltLayer) -> None:
    context(nowhere, "far", ADDRESSES["docker"])
    (nowhere / ".docker" / "config.json").write_text(json.dumps({"currentContext": "far"}))
    before = dict(os.environ)
    engine = DockerEngine(run=RUN, cache_dir=nowhere)
    assert engine.capabilities().platform.startswith("linux/")
    engine.start(base, SessionSpec(command=("true",))).stop()
    engine.close()
    assert dict(os.environ) == before


def test_the_context_of_the_environment_is_used(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context(nowhere, "gone", f"unix://{nowhere}/gone.sock")
    monkeypatch.setenv("DOCKER_CONTEXT", "gone")
    assert f"unix://{nowhere}/gone.sock" in unavailable(nowhere)
    monkeypatch.setenv("DOCKER_CONTEXT", "never")
    assert unavailable(nowhere) == "there is no Docker context named never; see `docker context ls`."


@pytest.fixture
def listening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    with relay(ADDRESSES["docker"].removeprefix("unix://"), tmp_path / "docker.sock") as relaying:
        monkeypatch.setenv("DOCKER_HOST", relaying.address)
        yield relaying


@pytest.fixture
def engine(listening: Relay, tmp_path: Path) -> Iterator[DockerEngine]:
    engine = DockerEngine(run=RUN, cache_dir=tmp_path / "cache")
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BuiltLayer]:
    engine = DockerEngine(run=RUN, cache_dir=tmp_path_factory.mktemp("daemon"))
    labels = LayerLabels(key=f"{RUN}-base", parent="", generation="", run=RUN)
    layer = engine.import_base(BASE, engine.pin_base(BASE, print), labels, print)
    engine.close()
    yield layer
    assert leftovers("docker", RUN) == []


def test_layers_are_one_call_and_a_layer_is_one(engine: DockerEngine, listening: Relay, base: BuiltLayer) -> None:
    engine.capabilities()
    listening.calls.clear()
    assert engine.layers()[base.labels.key] == base
    assert len(listening.calls) == 1
    assert engine.find(base.labels.key) == base
    assert len(listening.calls) == 2


def test_a_sweep_that_finds_nothing_only_lists(engine: DockerEngine, listening: Relay) -> None:
    engine.sweep()
    listening.calls.clear()
    engine.sweep()
    assert listening.changes() == []
    assert len(listening.calls) <= 3


def test_a_daemon_that_dies_during_a_step_is_one_error(
    engine: DockerEngine, listening: Relay, base: BuiltLayer
) -> None:
    lines: list[str] = []

    def die(line: str) -> None:
        lines.append(line)
        listening.answers = [("", (500, "shutting down"))]
        listening.cut()

    with pytest.raises(EngineError) as caught:
        engine.run(base, Work(commands=("echo here >&2; sleep 100",)), die)
    assert lines == ["here"]
    assert "\n" not in str(caught.value)
    listening.answers = []
    # What was cut off ends by itself, because its input closed; a later sweep removes it.
    deadline = time.monotonic() + SECONDS
    api = docker.from_env().api
    mine = {"label": f"imagebuild.run={RUN}", "status": "running"}
    while api.containers(filters=mine):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for found in api.containers(all=True, filters={"label": f"imagebuild.run={RUN}"}):
        api.remove_container(found["Id"])


def test_a_daemon_that_dies_during_a_session_ends_its_channel(
    engine: DockerEngine, listening: Relay, base: BuiltLayer
) -> None:
    container = engine.start(base, SessionSpec(command=("cat",)))
    listening.cut()
    assert container.channel.receive(SECONDS) == b""
    status = container.wait(SECONDS)
    lost = "The connection to Docker was lost. Look at `docker info`, then run again."
    assert (status.code, status.detail) == (None, lost)
    container.stop()


def test_closing_the_engine_stops_what_it_started(tmp_path: Path, base: BuiltLayer) -> None:
    engine = DockerEngine(run=RUN, cache_dir=tmp_path)
    container = engine.start(base, SessionSpec(command=("sleep", "1000")))
    service = engine.serve(base, ServiceSpec(command=("sleep", "1000")))
    failed: list[BaseException] = []

    def work() -> None:
        try:
            engine.run(base, Work(commands=("echo up >&2; sleep 1000",)), lambda _: up.set())
        except (EngineError, CommandFailed) as error:
            failed.append(error)

    up = threading.Event()
    working = threading.Thread(target=work)
    working.start()
    assert up.wait(SECONDS)
    engine.close()
    working.join(SECONDS)
    assert len(failed) == 1
    assert container.wait(SECONDS).code == 137
    api = docker.from_env().api
    assert api.containers(all=True, filters={"label": f"imagebuild.run={RUN}"}) == []
    assert list((tmp_path / "runs").iterdir()) == []
    service.stop()
    engine.close()


@pytest.mark.parametrize("command", ["true", "false"])
def test_no_container_of_a_step_is_left_when_the_engine_is_closed(
    tmp_path: Path, base: BuiltLayer, command: str
) -> None:
    run = uuid.uuid4().hex
    engine = DockerEngine(run=run, cache_dir=tmp_path)
    labels = LayerLabels(key=run, parent=base.labels.key, generation="", run=run, namespace=run)
    with contextlib.suppress(CommandFailed):
        engine.build(base, Work(commands=(command,)), labels, print)
    engine.drop(run)
    engine.close()
    api = docker.from_env().api
    assert api.containers(all=True, filters={"label": f"imagebuild.run={run}"}) == []
    assert api.images(all=True, filters={"label": f"imagebuild.run={run}"}) == []


def test_a_layer_that_was_removed_right_after_it_was_made_is_an_error_that_says_so(
    engine: DockerEngine, base: BuiltLayer
) -> None:
    key = uuid.uuid4().hex
    labels = LayerLabels(key=key, parent=base.labels.key, generation="", run=RUN, namespace=key)
    layer = engine.build(base, Work(), labels, print)
    engine.drop(key)
    with pytest.raises(EngineError, match=r"the image sha256:\w+ is gone: something removed it; run again to build it"):
        engine.build(layer, Work(commands=("true",)), labels, print)


def test_a_container_that_is_killed_from_outside(engine: DockerEngine, base: BuiltLayer) -> None:
    container = engine.start(base, SessionSpec(command=("cat",)))
    docker.from_env().api.kill(container.id)
    assert container.channel.receive(SECONDS) == b""
    status = container.wait(SECONDS)
    assert (status.code, status.out_of_memory, status.detail) == (137, False, "killed by SIGKILL")


EATER = "import sys; sys.stdin.readline(); x = [bytearray(b'x' * 1_000_000) for _ in range(400)]; print(len(x))"


def test_a_worker_that_runs_out_of_memory_is_told_apart(engine: DockerEngine, base: BuiltLayer) -> None:
    container = engine.start(base, SessionSpec(command=("python3", "-c", EATER)))
    docker.from_env().api.update_container(container.id, mem_limit=64_000_000, memswap_limit=64_000_000)
    container.channel.send(b"\n")
    assert container.channel.receive(SECONDS) == b""
    status = container.wait(SECONDS)
    assert (status.code, status.out_of_memory, status.detail) == (137, True, "the kernel killed it: out of memory")


def test_a_session_ends_when_its_process_is_killed_without_any_sweep(base: BuiltLayer, tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        engine = DockerEngine(run=RUN, cache_dir=tmp_path)
        (tmp_path / "id").write_text(engine.start(base, SessionSpec(command=("cat",))).id)
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    name = (tmp_path / "id").read_text()
    deadline = time.monotonic() + SECONDS
    while docker.from_env().api.containers(all=True, filters={"id": name}):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_nothing_of_what_a_session_says_is_kept_by_the_daemon(engine: DockerEngine, base: BuiltLayer) -> None:
    container = engine.start(base, SessionSpec(command=("cat",)))
    found = docker.from_env().containers.get(container.id)
    assert found.attrs["HostConfig"]["LogConfig"]["Type"] == "none"
    assert found.attrs["HostConfig"]["AutoRemove"]
    assert found.attrs["HostConfig"]["PidsLimit"] == 4096
    assert found.labels[LABEL_SESSION_ID] == SESSION_ID


def test_the_native_object_of_a_service_is_a_container_of_testcontainers(
    engine: DockerEngine, base: BuiltLayer
) -> None:
    service = engine.serve(base, ServiceSpec(command=("sleep", "1000")))
    native = service.native
    assert isinstance(native, DockerContainer)
    assert native.exec(["echo", "hi"]).output == b"hi\n"
    native.stop()
    service.stop()
    assert engine.layers()[base.labels.key] == base, "the engine's connection is open still"


def test_ryuk_is_used_where_its_image_is_and_never_pulled(
    engine: DockerEngine, listening: Relay, base: BuiltLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    monkeypatch.setattr(Reaper, "get_instance", classmethod(lambda cls: started.append(1)))
    monkeypatch.setattr(testcontainers_config, "ryuk_image", "imagebuild-test/ryuk:none")
    engine.serve(base, ServiceSpec(command=("sleep", "1000"))).stop()
    assert started == []
    client = docker.from_env()
    client.api.tag(base.reference, "imagebuild-test/ryuk", "here")
    monkeypatch.setattr(testcontainers_config, "ryuk_image", "imagebuild-test/ryuk:here")
    engine.serve(base, ServiceSpec(command=("sleep", "1000"))).stop()
    assert started == [1]
    assert testcontainers_config.ryuk_disabled is False
    assert not [call for call in listening.calls if "fromImage" in call]
    client.images.remove("imagebuild-test/ryuk:here")


def test_the_lock_of_a_process_is_its_own(tmp_path: Path) -> None:
    first, second = (DockerEngine(run="same", cache_dir=tmp_path) for _ in range(2))
    first.capabilities()
    second.capabilities()
    locks = list((tmp_path / "runs").iterdir())
    assert len(locks) == 2
    assert all(stat.S_ISREG(lock.stat().st_mode) and lock.name.startswith("same-") for lock in locks)
    first.close()
    assert len(list((tmp_path / "runs").iterdir())) == 1
    second.close()


def test_the_capabilities_of_a_local_daemon(engine: DockerEngine) -> None:
    found = engine.capabilities()
    info = docker.from_env().info()
    assert found.identity == info["ID"]
    assert found.version == info["ServerVersion"]
    assert found.host_network


def test_a_step_can_share_the_network_of_the_host(box: Bench) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ask = f"import socket; socket.create_connection(('127.0.0.1', {listener.getsockname()[1]})); print('reached')"
        assert box.run(f'python3 -c "{ask}"', network="host") == "reached\n"


def certificates(folder: Path) -> ssl.SSLContext:
    """Make what DOCKER_CERT_PATH holds: one key pair that vouches for itself, for both sides."""
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*make, *names], cwd=folder, check=True, capture_output=True, timeout=60)
    (folder / "ca.pem").write_bytes((folder / "cert.pem").read_bytes())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "ca.pem")
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


@pytest.mark.parametrize("secured", [False, True], ids=["tcp", "tls"])
def test_steps_and_sessions_work_over_a_network(
    secured: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: BuiltLayer
) -> None:
    tls = certificates(tmp_path) if secured else None
    with relay(ADDRESSES["docker"].removeprefix("unix://"), tls=tls) as relaying:
        monkeypatch.setenv("DOCKER_HOST", relaying.address)
        if secured:
            monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
            monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
        engine = DockerEngine(run=RUN, cache_dir=tmp_path)
        assert not engine.capabilities().host_network
        assert engine.run(base, Work(commands=("echo hi",)), print) == b"hi\n"
        container = engine.start(base, SessionSpec(command=("cat",)))
        data = os.urandom(3_000_000)
        sender = threading.Thread(target=container.channel.send, args=(data,))
        sender.start()
        received = b""
        while len(received) < len(data):
            received += container.channel.receive(SECONDS) or b""
        assert received == data
        sender.join(SECONDS)
        container.channel.send(data)
        assert container.channel.receive(0) != b""
        container.stop()
        assert container.wait(SECONDS).code is not None
        engine.close()
