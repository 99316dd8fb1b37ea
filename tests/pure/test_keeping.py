"""The process that keeps containers: what waits, who gets it, and what a run makes of one that is not as it should."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_imagebuild.engines.layers import BuiltLayer, LayerLabels
from pytest_imagebuild.engines.pipes import PipeChannel
from pytest_imagebuild.engines.protocol import Capabilities, Container, SessionSpec
from pytest_imagebuild.engines.volumes import VolumeMount
from pytest_imagebuild.errors import EngineError
from pytest_imagebuild.keeping.door import Line, call, listen, place_of
from pytest_imagebuild.keeping.keeper import MOST, Keeper
from pytest_imagebuild.keeping.kept import Kept, let_go
from pytest_imagebuild.keeping.relay import Relay
from pytest_imagebuild.keeping.rows import row_of, spec_of

SPEC = SessionSpec(command=("start", "it"), network="none", memory=2**30, cpu=0.5, isolate=True)
PLAIN = SessionSpec(command=("start",))


class _Channel:
    """Says what a worker says that waits: nothing. A dead one's words have ended."""

    def __init__(self) -> None:
        self.said: bytes | None = None

    def receive(self, timeout: float | None) -> bytes | None:
        assert timeout == 0
        return self.said


class _Container:
    def __init__(self, name: str) -> None:
        self.id = name
        self.channel = _Channel()
        self.stopped = 0

    def stop(self) -> None:
        self.stopped += 1


class _Engine:
    """Has layers by their names, and starts containers of them as far as it is let."""

    name = "memory"

    def __init__(self) -> None:
        self.started: list[_Container] = []
        self.fails = False
        self.may_start = threading.Event()
        self.may_start.set()

    def capabilities(self) -> Capabilities:
        return Capabilities(engine="memory", version="1", platform="linux/amd64", identity="store", host_network=True)

    def find(self, key: str) -> BuiltLayer | None:
        return None if key == "gone" else _layer(key)

    def start(self, layer: BuiltLayer, spec: SessionSpec) -> Container:
        assert spec.command[0] == "start"
        self.may_start.wait(20)
        if self.fails:
            raise EngineError("no")
        self.started.append(_Container(layer.labels.key))
        return cast("Container", self.started[-1])


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _layer(key: str) -> BuiltLayer:
    return BuiltLayer(
        labels=LayerLabels(key=key, parent="", generation="", run="r"), reference=f"ref {key}", size=1, created=1.0
    )


@pytest.fixture
def engine() -> _Engine:
    return _Engine()


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def keeper(engine: _Engine, clock: _Clock) -> Keeper:
    return Keeper(cast("Any", engine), clock)


def _take(keeper: Keeper, key: str = "a", spec: SessionSpec = PLAIN) -> _Container | None:
    return cast("_Container | None", keeper.take(f"ref {key}", key, spec))


# Rows -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [SPEC, PLAIN])
def test_a_spec_goes_through_json(spec: SessionSpec) -> None:
    assert spec_of(json.loads(json.dumps(row_of(spec)))) == spec


@pytest.mark.parametrize(
    "row", [None, [], {}, [["start"], "none", "1", None, False], [["start"], "none", 1, 1, 1], [["start"], "none"]]
)
def test_what_is_no_row_is_none(row: object) -> None:
    assert spec_of(row) is None


@pytest.mark.parametrize(
    "spec",
    [
        SessionSpec(command=(), gpus=("0",)),
        SessionSpec(command=(), volumes=(VolumeMount(path="/v", name="v"),)),
        SessionSpec(command=(), environment={"A": "1"}),
    ],
    ids=["gpus", "volumes", "variables"],
)
def test_what_needs_more_than_an_image_has_no_row(spec: SessionSpec) -> None:
    assert row_of(spec) is None


# What waits -----------------------------------------------------------------------------------------------------------


def test_a_container_goes_to_one_run_that_wants_exactly_it(keeper: Keeper, engine: _Engine) -> None:
    assert keeper.keep("run", [("a", PLAIN), ("gone", PLAIN)], 60) == 1

    assert _take(keeper, "b") is None
    assert _take(keeper, "a", SPEC) is None
    assert keeper.take("another reference", "a", PLAIN) is None
    taken = _take(keeper)
    assert _take(keeper) is None
    keeper.close()
    assert taken is engine.started[0]
    assert taken.stopped == 0


def test_one_that_waits_already_is_as_good(keeper: Keeper, engine: _Engine, clock: _Clock) -> None:
    keeper.keep("first", [("a", PLAIN)], 60)
    clock.now += 50
    assert keeper.keep("second", [("a", PLAIN)], 60) == 1
    clock.now += 50
    assert keeper.expire()
    assert _take(keeper) is engine.started[0]
    keeper.close()
    assert len(engine.started) == 1


def test_the_processes_of_one_run_need_one_each(keeper: Keeper, engine: _Engine) -> None:
    assert [keeper.keep("run", [("a", PLAIN)], 60) for _ in range(3)] == [1, 2, 3]
    # The next run has but one process. What it does not need has its own time.
    assert keeper.keep("next", [("a", PLAIN)], 60) == 3
    keeper.close()
    assert [container.stopped for container in engine.started] == [1, 1, 1]


def test_it_ends_when_its_time_is_over(keeper: Keeper, engine: _Engine, clock: _Clock) -> None:
    keeper.keep("run", [("a", PLAIN)], 60)
    keeper.keep("run", [("b", PLAIN)], 90)
    clock.now += 60
    assert keeper.expire()
    assert _take(keeper, "a") is None
    clock.now += 30
    assert not keeper.expire()
    keeper.close()
    assert [container.stopped for container in engine.started] == [1, 1]


def test_the_oldest_goes_when_too_many_wait(keeper: Keeper, engine: _Engine) -> None:
    assert keeper.keep("run", [(f"{number}", PLAIN) for number in range(MOST + 2)], 60) == MOST
    assert _take(keeper, "1") is None
    assert _take(keeper, "2") is not None
    keeper.close()
    assert {container.id: container.stopped for container in engine.started}["0"] == 1


def test_whoever_comes_early_waits_for_its_start(keeper: Keeper, engine: _Engine) -> None:
    engine.may_start.clear()
    keeper.keep("run", [("a", PLAIN)], 60)
    taken: Future[_Container | None] = Future()
    thread = threading.Thread(target=lambda: taken.set_result(_take(keeper)))
    thread.start()
    engine.may_start.set()
    thread.join(20)
    assert taken.result(0) is engine.started[0]
    keeper.close()


@pytest.mark.parametrize("said", [b"", b"words that nobody asked for"], ids=["dead", "talks"])
def test_one_whose_worker_does_not_wait_is_ended_and_another_taken(
    keeper: Keeper, engine: _Engine, said: bytes
) -> None:
    keeper.keep("run", [("a", PLAIN), ("a", PLAIN)], 60)
    keeper.keep("wait for both", [], 60)
    while len(engine.started) < 2:
        threading.Event().wait(0.01)
    # Which of the two starts first is chance.
    for container in engine.started[:1]:
        container.channel.said = said
    taken = _take(keeper)
    assert taken is engine.started[1] or _take(keeper) is None
    keeper.close()
    assert engine.started[0].stopped == 1


def test_one_from_before_the_machine_was_in_another_network_is_ended(
    keeper: Keeper, engine: _Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = tmp_path / "resolv.conf"
    monkeypatch.setattr("pytest_imagebuild.keeping.keeper._NAMES", (names,))
    keeper.keep("run", [("a", PLAIN)], 60)
    names.write_text("nameserver 192.0.2.1\n")
    assert _take(keeper) is None
    keeper.keep("next", [("a", PLAIN)], 60)
    assert _take(keeper) is engine.started[1]
    keeper.close()
    assert engine.started[0].stopped == 1


def test_a_start_that_fails_is_no_error(keeper: Keeper, engine: _Engine) -> None:
    engine.fails = True
    keeper.keep("run", [("a", PLAIN)], 60)
    assert _take(keeper) is None
    keeper.keep("run", [("a", PLAIN)], 60)
    assert keeper.let_go() >= 1
    keeper.close()


def test_all_that_wait_are_let_go_at_once(keeper: Keeper, engine: _Engine) -> None:
    keeper.keep("run", [("a", PLAIN), ("b", SPEC)], 60)
    assert keeper.let_go() == 2
    assert [container.stopped for container in engine.started] == [1, 1]
    assert keeper.let_go() == 0
    assert not keeper.expire()
    keeper.close()


# A run's side ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(engine: _Engine, tmp_path: Path) -> Kept:
    return Kept(cast("Any", engine), tmp_path, run="run", seconds=60, asked="auto")


def _answering(place: Path, answer: Callable[[socket.socket], None]) -> threading.Thread:
    """Answer one connection in a thread."""
    place.mkdir(parents=True)
    listener = listen(place)

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            answer(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_without_such_a_process_a_container_is_started(kept: Kept, engine: _Engine) -> None:
    assert kept.start(_layer("a"), PLAIN) is cast("Any", engine.started[0])
    assert kept.taken == 0


@pytest.mark.parametrize(
    "answer",
    [b"", b"not json\n", b"[]\n", b"{}\n", b'{"taken": null}\n', b'{"taken": "c"}\n', b'{"taken": 1', b"x" * 100_000],
)
def test_whatever_it_answers_a_container_is_started(kept: Kept, engine: _Engine, tmp_path: Path, answer: bytes) -> None:
    def say(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answer)

    thread = _answering(place_of(tmp_path, cast("Any", engine)), say)
    assert kept.start(_layer("a"), PLAIN) is cast("Any", engine.started[0])
    assert kept.taken == 0
    thread.join(20)


def test_what_it_hands_over_is_talked_to_without_it(kept: Kept, engine: _Engine, tmp_path: Path) -> None:
    worker, ours = socket.socketpair()
    asked = []

    def lend(connection: socket.socket) -> None:
        asked.append(json.loads(connection.recv(4096)))
        socket.send_fds(connection, [b'{"taken": "c1"}\n'], [ours.fileno()] * 3)
        asked.append(json.loads(connection.recv(4096)))
        connection.sendall(b'{"code": 137, "oom": true, "detail": "killed"}\n')
        assert connection.recv(4096) == b""

    thread = _answering(place_of(tmp_path, cast("Any", engine)), lend)
    container = kept.start(_layer("a"), SPEC)
    ours.close()
    assert (container.id, kept.taken, engine.started) == ("c1", 1, [])
    container.channel.send(b"hello")
    assert worker.recv(10) == b"hello"
    worker.sendall(b"reply")
    assert container.channel.receive(5) == b"reply"
    status = container.wait(1.5)
    assert (status.code, status.out_of_memory, status.detail) == (137, True, "killed")
    for _ in range(2):
        container.stop()
    thread.join(20)
    assert worker.recv(10) == b""
    worker.close()
    assert asked == [{"take": ["ref a", "a", ["start", "it"], "none", 2**30, 0.5, True]}, {"wait": 1.5}]
    assert container.wait(0).detail == "The process that kept the container has ended."


def test_file_descriptors_that_come_with_nonsense_are_closed(kept: Kept, engine: _Engine, tmp_path: Path) -> None:
    read, write = os.pipe()

    def lend(connection: socket.socket) -> None:
        connection.recv(4096)
        socket.send_fds(connection, [b"nonsense\n"], [write])

    thread = _answering(place_of(tmp_path, cast("Any", engine)), lend)
    kept.start(_layer("a"), PLAIN)
    thread.join(20)
    os.close(write)
    assert os.read(read, 1) == b""
    os.close(read)


def test_the_layer_of_a_throw_away_cache_is_asked_of_nobody(kept: Kept, engine: _Engine, tmp_path: Path) -> None:
    labels = LayerLabels(key="a", parent="", generation="", run="r", namespace="run")
    thread = _answering(place_of(tmp_path, cast("Any", engine)), lambda connection: None)
    kept.start(BuiltLayer(labels=labels, reference="ref", size=1, created=1.0), PLAIN)
    line = call(place_of(tmp_path, cast("Any", engine)))
    assert line is not None
    line.close()
    thread.join(20)
    assert len(engine.started) == 1


def test_a_folder_that_cannot_be_made_is_said(kept: Kept, tmp_path: Path) -> None:
    (tmp_path / "keepers").write_text("no folder")
    with pytest.raises(EngineError, match=r"no container can be kept for the next run: .*keepers"):
        kept.keep([(_layer("a"), PLAIN)])


def test_why_it_cannot_keep_one_is_said(kept: Kept, engine: _Engine, tmp_path: Path) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b'{"error": "the engine is gone"}\n')

    thread = _answering(place_of(tmp_path, cast("Any", engine)), refuse)
    with pytest.raises(EngineError, match=r"^no container can be kept for the next run: the engine is gone$"):
        kept.keep([(_layer("a"), PLAIN)])
    thread.join(20)


def test_one_that_is_silent_is_asked_no_more_and_named(
    kept: Kept, engine: _Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Line.receive, "__defaults__", (0.1,))
    heard = threading.Event()
    thread = _answering(place_of(tmp_path, cast("Any", engine)), lambda _: cast("None", heard.wait(20)))
    assert kept.start(_layer("a"), PLAIN) is cast("Any", engine.started[0])
    with pytest.raises(EngineError, match=rf"does not answer\. End it: kill -9 {os.getpid()}$"):
        kept.keep([(_layer("a"), PLAIN)])
    heard.set()
    thread.join(20)


def test_one_that_does_not_let_go_is_named(engine: _Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_imagebuild.keeping.door._ANSWER_SECONDS", 0.1)
    heard = threading.Event()
    thread = _answering(place_of(tmp_path, cast("Any", engine)), lambda _: cast("None", heard.wait(20)))
    with pytest.raises(EngineError, match=r"does not answer\. End it: kill -9 \d+$"):
        let_go(tmp_path, cast("Any", engine))
    heard.set()
    thread.join(20)


def test_nothing_to_keep_starts_nothing(kept: Kept, tmp_path: Path) -> None:
    kept.keep([(_layer("a"), SessionSpec(command=(), gpus=("0",)))])
    assert [*tmp_path.iterdir()] == []


def test_letting_go_asks_every_process_of_the_store(engine: _Engine, tmp_path: Path) -> None:
    asked = []

    def answer(connection: socket.socket) -> None:
        asked.append(json.loads(connection.recv(4096)))
        connection.sendall(b'{"ended": 2}\n')

    mine = place_of(tmp_path, cast("Any", engine))
    threads = [_answering(place, answer) for place in (mine, mine.with_name("of another Python"))]
    mine.with_name("dead").mkdir()
    assert let_go(tmp_path, cast("Any", engine)) == 4
    for thread in threads:
        thread.join(20)
    assert asked == [{"let_go": True}] * 2


def test_a_socket_in_a_folder_with_a_long_name_is_found(tmp_path: Path) -> None:
    place = tmp_path / ("long" * 30) / ("name" * 30)
    thread = _answering(place, lambda connection: connection.sendall(b'{"a": 1}\n'))
    line = call(place)
    assert line is not None
    with closing(line):
        assert line.receive() == ({"a": 1}, [])
    thread.join(20)


# The relay ------------------------------------------------------------------------------------------------------------


class _Talk:
    """A channel that says some things, then ends, or fails."""

    def __init__(self, *said: bytes, errors: bytes = b"", fails: str = "") -> None:
        self.sent: list[bytes] = []
        self.heard = threading.Event()
        self._said = [*said]
        self._errors = errors
        self._fails = fails

    def send(self, data: bytes) -> None:
        self.sent.append(data)
        self.heard.set()

    def receive(self, timeout: float | None) -> bytes:
        assert timeout is None
        if not self._said and self._fails:
            raise EngineError(self._fails)
        return self._said.pop(0) if self._said else b""

    def error_output(self) -> bytes:
        return self._errors

    def close(self) -> None:
        """It has nothing to close."""


def _relayed(talk: _Talk) -> tuple[Relay, PipeChannel]:
    relay = Relay(talk)
    files = [os.dup(stream) for stream in relay.streams]
    relay.lent()
    stdin, stdout, stderr = files
    return relay, PipeChannel(os.fdopen(stdin, "wb", 0), os.fdopen(stdout, "rb", 0), os.fdopen(stderr, "rb", 0))


def test_a_relay_passes_on_what_is_said_and_how_it_ends() -> None:
    talk = _Talk(b"a" * 1_000_000, b"b", errors=b"last words", fails="the connection was lost")
    relay, channel = _relayed(talk)
    channel.send(b"question")
    assert talk.heard.wait(20)
    received = b""
    while data := channel.receive(20):
        received += data
    assert received == b"a" * 1_000_000 + b"b"
    assert channel.error_output() == b"last words"
    assert b"".join(talk.sent) == b"question"
    assert relay.error == "the connection was lost"
    channel.close()


def test_a_relay_ends_with_the_run_that_had_it() -> None:
    before = set(threading.enumerate())
    _, channel = _relayed(_Talk(*[b"x" * 100_000] * 100))
    begun = set(threading.enumerate()) - before
    assert begun
    channel.close()
    for thread in begun:
        thread.join(20)
    assert not any(thread.is_alive() for thread in begun)
