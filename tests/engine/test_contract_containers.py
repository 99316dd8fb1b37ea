"""What every engine that runs containers promises of them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_imagebuild.engines.memory import MemoryEngine
from pytest_imagebuild.engines.protocol import Container, Service, SessionSpec
from pytest_imagebuild.engines.services import ServiceSpec
from pytest_imagebuild.errors import EngineError

from .conftest import Bench, Sessions, to_the_end

Start = Callable[..., Container]
SECONDS = 30


@pytest.fixture
def start(sessions: Sessions) -> Start:
    """Start sessions of the base."""

    def start(*command: str, environment: dict[str, str] | None = None, network: str = "default") -> Container:
        return sessions(SessionSpec(command=command, environment=environment or {}, network=network))

    return start


def received(container: Container, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = container.channel.receive(SECONDS)
        assert part, f"the output ended, or stopped, after {len(data)} bytes"
        data += part
    return bytes(data)


def test_what_is_sent_comes_back(start: Start) -> None:
    container = start("cat")
    assert container.id
    for _ in range(3):
        container.channel.send(b"hello\n")
        assert received(container, 6) == b"hello\n"


def test_receiving_waits_no_longer_than_it_is_told(start: Start) -> None:
    container = start("cat")
    began = time.monotonic()
    assert container.channel.receive(0.2) is None
    assert 0.15 < time.monotonic() - began < 3
    assert container.channel.receive(0) is None


def test_a_thread_that_receives_does_not_keep_another_from_sending(start: Start) -> None:
    container = start("cat")
    data = os.urandom(30_000_000)
    sender = threading.Thread(target=container.channel.send, args=(data,))
    sender.start()
    assert received(container, len(data)) == data
    sender.join(SECONDS)
    assert not sender.is_alive()


def test_one_thread_can_send_much_before_it_receives(start: Start) -> None:
    container = start("cat")
    data = os.urandom(30_000_000)
    container.channel.send(data)
    assert received(container, len(data)) == data


def test_much_output_waits_for_the_reader(start: Start) -> None:
    container = start("sh", "-c", "head -c 40000000 /dev/zero; cat >&2; echo end")
    time.sleep(0.5)
    assert received(container, 40_000_000) == bytes(40_000_000)
    container.channel.send(b"still there")
    assert container.channel.receive(0.3) is None
    assert container.channel.error_output() == b"still there"


def test_the_two_outputs_are_told_apart(start: Start) -> None:
    container = start("sh", "-c", "echo out; echo err >&2; echo out again; cat")
    assert received(container, 14) == b"out\nout again\n"
    while not container.channel.error_output():
        time.sleep(0.01)
    assert container.channel.error_output() == b"err\n"


def test_of_the_error_output_the_end_is_kept(start: Start) -> None:
    container = start("sh", "-c", "head -c 1000000 /dev/zero >&2; echo last >&2")
    assert to_the_end(container) == b""
    kept = container.channel.error_output()
    assert len(kept) <= 65536
    assert kept.endswith(b"last\n")


def test_a_worker_that_ends_tells_its_exit_code(start: Start) -> None:
    container = start("sh", "-c", "echo bye; exit 7")
    assert to_the_end(container) == b"bye\n"
    assert container.channel.receive(1) == b""
    status = container.wait(SECONDS)
    assert (status.code, status.out_of_memory) == (7, False)
    assert container.wait(SECONDS) == status


def test_a_worker_that_is_killed_tells_the_signal(start: Start) -> None:
    container = start("sh", "-c", "kill -SEGV $$")
    assert to_the_end(container) == b""
    status = container.wait(SECONDS)
    assert (status.code, status.out_of_memory, status.detail) == (139, False, "killed by SIGSEGV")


def test_waiting_for_a_worker_that_runs_ends_in_time(start: Start) -> None:
    status = start("cat").wait(0.1)
    assert (status.code, status.detail) == (None, "it still ran after 0.1 s")


def test_a_worker_that_ignores_everything_is_stopped_and_stopped_again(start: Start) -> None:
    container = start("sh", "-c", "trap '' TERM INT HUP; echo up; while :; do sleep 1; done")
    received(container, 3)
    container.stop()
    assert container.wait(SECONDS).code == 137
    container.stop()
    assert container.channel.receive(SECONDS) == b""
    with pytest.raises(EngineError, match="the container does not listen any more"):
        container.channel.send(b"x")


def test_closing_the_channel_ends_the_worker(start: Start) -> None:
    container = start("sh", "-c", "cat; exit 5")
    container.channel.close()
    assert container.wait(SECONDS).code == 5


def test_a_thread_that_waits_is_woken_when_the_container_stops(start: Start) -> None:
    container = start("sleep", "1000")
    got: list[bytes | None] = []
    waiting = threading.Thread(target=lambda: got.append(container.channel.receive(None)))
    waiting.start()
    time.sleep(0.2)
    container.stop()
    waiting.join(SECONDS)
    assert got == [b""]


def test_sending_to_a_worker_that_ended_is_an_error(start: Start) -> None:
    container = start("true")
    to_the_end(container)
    container.wait(SECONDS)
    with pytest.raises(EngineError, match="the container does not listen any more"):
        container.channel.send(bytes(10_000_000))


def test_a_session_has_its_environment_and_runs_as_root_without_privileges(start: Start) -> None:
    container = start(
        "sh", "-c", 'printf "%s|" "$A"; id -u; mount -t tmpfs none /mnt || echo refused', environment={"A": "b c"}
    )
    assert to_the_end(container) == b"b c|0\nrefused\n"


def test_a_session_without_network_has_none(start: Start) -> None:
    assert to_the_end(start("grep", "-c", ":", "/proc/net/dev", network="none")) == b"1\n"


def test_a_session_has_an_init_that_reaps_its_orphans(start: Start) -> None:
    orphans = "(sleep 0.1 &); sleep 0.5; grep -l 'State:.Z' /proc/[0-9]*/status | wc -l"
    assert to_the_end(start("sh", "-c", orphans)).strip() == b"0"


def test_a_program_that_is_not_there_ends_the_session_and_says_so(start: Start) -> None:
    container = start("no-such-program")
    assert to_the_end(container) == b""
    assert b"no-such-program" in container.channel.error_output()
    assert container.wait(SECONDS).code == 127


SERVER = "mkdir -p /www && cd /www && echo hello > index.html && echo starting && exec python3 -m http.server 8000"


@pytest.fixture
def service(box: Bench) -> Iterator[Service]:
    spec = ServiceSpec(command=("sh", "-c", SERVER), ports=(8000,), environment={"A": "b"})
    service = box.engine.serve(box.base, spec)
    yield service
    service.stop()


def test_a_service_is_reached_at_its_port(service: Service) -> None:
    host, port = service.port(8000)
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://{host}:{port}/", timeout=5) as answer:
                assert answer.read() == b"hello\n"
            break
        except OSError:
            assert time.monotonic() < deadline, service.logs()
            time.sleep(0.1)
    assert "starting" in service.logs()
    with pytest.raises(EngineError, match="port 9 of the container is not published, but 8000: ask for it"):
        service.port(9)


def test_the_wait_strategies_of_testcontainers_take_a_service(box: Bench, service: Service) -> None:
    from testcontainers.core import wait_strategies

    native: Any = service.native
    for strategy in (
        wait_strategies.LogMessageWaitStrategy("starting"),
        wait_strategies.PortWaitStrategy(8000),
        wait_strategies.HttpWaitStrategy(8000, "/index.html"),
        wait_strategies.ExecWaitStrategy(["test", "-e", "/www/index.html"]),
    ):
        strategy.with_startup_timeout(SECONDS).wait_until_ready(native)
    ended = box.engine.serve(box.base, ServiceSpec(command=("sh", "-c", "echo no luck; exit 3")))
    with pytest.raises(RuntimeError, match=r"exited .*exit code: 3"):
        wait_strategies.LogMessageWaitStrategy("never").wait_until_ready(ended.native)  # type: ignore[arg-type]
    ended.stop()


def test_a_service_that_ended_says_so_when_it_is_asked_for_a_port(box: Bench) -> None:
    service = box.engine.serve(box.base, ServiceSpec(command=("sh", "-c", "echo no luck; exit 3"), ports=(8000,)))
    deadline = time.monotonic() + SECONDS
    while "no luck" not in service.logs():
        assert time.monotonic() < deadline
    time.sleep(0.5)
    with pytest.raises(EngineError, match=r"the container has ended \(exit code 3\): no luck"):
        service.port(8000)
    service.stop()


def test_commands_run_in_a_service(service: Service) -> None:
    ran = service.exec(["sh", "-c", 'echo "$A$C"; echo err >&2; exit 3'], environment={"C": "d"})
    assert (ran.exit_code, ran.stdout, ran.stderr) == (3, b"bd\n", b"err\n")
    assert service.exec(["true"]).exit_code == 0


def test_files_go_in_and_out_of_a_service(service: Service) -> None:
    data = os.urandom(100_000)
    service.write("/srv/deep/file", data, mode=0o600)
    assert service.read("/srv/deep/file") == data
    assert service.exec(["stat", "-c", "%a", "/srv/deep/file"]).stdout == b"600\n"
    service.exec(["ln", "-s", "../deep/file", "/srv/deep/link"])
    assert service.read("/srv/deep/link") == data
    with pytest.raises(FileNotFoundError, match="there is no /srv/none in the container"):
        service.read("/srv/none")
    with pytest.raises(IsADirectoryError, match="/srv/deep in the container is not a file"):
        service.read("/srv/deep")


def test_a_service_is_stopped_twice(box: Bench) -> None:
    service = box.engine.serve(box.base, ServiceSpec(command=("sleep", "1000")))
    service.stop()
    service.stop()


def test_a_service_without_a_command_runs_that_of_the_image(box: Bench) -> None:
    from pytest_imagebuild.engines.work import ConfigChange

    layer = box.build(config=ConfigChange(entrypoint=("echo", "from"), command=("the image",)))
    service = box.engine.serve(layer, ServiceSpec())
    deadline = time.monotonic() + SECONDS
    while service.logs() != "from the image\n":
        assert time.monotonic() < deadline, service.logs()
        time.sleep(0.05)
    service.stop()


def test_a_sweep_removes_what_a_killed_process_left(
    box: Bench, request: pytest.FixtureRequest, cache_dir: Path
) -> None:
    name = request.node.callspec.params["real"]
    arguments = [name, str(cache_dir), box.base.labels.key, f"dead-{os.getpid()}"]
    command = [sys.executable, "-m", "tests.engine.leaver", *arguments]
    box.engine.sweep()  # What runs that were killed left on this daemon is not counted here.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("ready"), line
            assert box.engine.sweep() == 0, "it still lives"
        finally:
            process.kill()
    # Five: two that work, the rude session, the service, the throw-away layer. The polite session has ended by itself.
    removed = 0
    deadline = time.monotonic() + SECONDS
    while removed < 5:
        removed += box.engine.sweep()
        assert time.monotonic() < deadline, removed
    assert box.engine.sweep() == 0
    assert box.engine.layers(arguments[3]) == {}


def test_the_memory_engine_runs_no_containers_of_its_own() -> None:
    engine = MemoryEngine()
    layer = engine.import_base("x", engine.pin_base("x", print), Bench(engine, None).labels("k", parent=""), print)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="the memory engine runs no containers: give it `sessions`"):
        engine.start(layer, SessionSpec(command=("cat",)))
