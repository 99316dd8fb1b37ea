"""The parts of the Docker engine that need no daemon."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import docker.errors
import pytest

from pytest_imagebuild.engines.docker.channel import AttachChannel
from pytest_imagebuild.engines.docker.marks import repository, seconds, tag
from pytest_imagebuild.engines.docker.removing import Removals
from pytest_imagebuild.engines.docker.stream import STDERR, STDOUT, AttachStream
from pytest_imagebuild.engines.lines import LineReader, Tail
from pytest_imagebuild.engines.owner import Owner
from pytest_imagebuild.engines.references import Reference, means_refused, means_unreachable
from pytest_imagebuild.engines.script import Script, quote
from pytest_imagebuild.errors import EngineError


def read_lines(*chunks: bytes) -> tuple[list[str], list[str]]:
    lines: list[str] = []
    progress: list[str] = []
    reader = LineReader(lines.append, progress.append)
    for chunk in chunks:
        reader.feed(chunk)
    reader.finish()
    return lines, progress


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"a\nb\n"], ["a", "b"]),
        ([b"a\nb"], ["a", "b"]),
        ([b"a", b"b\n", b"\n"], ["ab", ""]),
        ([b"caf\xc3", b"\xa9\n"], ["café"]),
        ([b"\xff\n"], ["�"]),
        ([b"caf\xc3"], ["caf�"]),
        ([b"a\r\nb\r\n"], ["a", "b"]),
        ([b"a\r", b"\nb\r", b"\n"], ["a", "b"]),
        ([b"10%\r20%\r30%\ndone\n"], ["30%", "done"]),
        ([b"10%\r", b"20%\r", b"30%", b"\n"], ["30%"]),
        ([b"\r\r", b"x"], ["x"]),
        ([], []),
    ],
)
def test_bytes_are_cut_into_lines(chunks: list[bytes], lines: list[str]) -> None:
    assert read_lines(*chunks)[0] == lines


def test_progress_is_shown_now_and_then() -> None:
    _, progress = read_lines(*[f"\r{percent}%".encode() for percent in range(1000)])
    assert progress[0] == "0%"
    assert len(progress) < 20


def test_a_line_without_end_is_cut() -> None:
    lines, _ = read_lines(*[b"x" * 5000] * 100)
    assert "".join(lines) == "x" * 500_000
    assert max(map(len, lines)) <= 8192


def test_a_tail_holds_the_last_lines() -> None:
    tail = Tail(most=20)
    for number in range(100):
        tail.add(f"line {number}")
    assert tail.text() == "line 98\nline 99\n"


@pytest.fixture
def pair() -> Iterator[tuple[AttachStream, socket.socket]]:
    ours, theirs = socket.socketpair()
    stream = AttachStream(socket.SocketIO(ours, "rwb"))
    ours.close()
    yield stream, theirs
    stream.close()
    theirs.close()


Pair = tuple[AttachStream, socket.socket]


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


def test_frames_are_told_apart_wherever_they_are_cut(pair: Pair) -> None:
    stream, theirs = pair
    sent = frame(STDOUT, b"one") + frame(STDERR, b"") + frame(STDERR, b"two") + frame(STDOUT, b"three")
    for at in range(len(sent)):
        theirs.sendall(sent[at : at + 1])
        time.sleep(0)
    theirs.shutdown(socket.SHUT_WR)
    found = {STDOUT: b"", STDERR: b""}
    while frames := stream.read(5):
        for number, data in frames:
            found[number] += data
    assert found == {STDOUT: b"onethree", STDERR: b"two"}
    assert frames == []


def test_an_end_in_the_middle_of_a_frame_is_an_end(pair: Pair) -> None:
    stream, theirs = pair
    theirs.sendall(frame(STDOUT, b"whole") + frame(STDOUT, b"cut off")[:10])
    theirs.close()
    assert AttachChannel(stream).receive(5) is not None
    assert AttachChannel(stream).receive(5) == b""


def test_who_floods_while_it_is_sent_to_is_cut_off(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    import pytest_imagebuild.engines.docker.stream as module

    monkeypatch.setattr(module, "_MOST_UNREAD", 1024 * 1024)
    stream, theirs = pair

    def flood() -> None:
        try:
            while True:
                theirs.sendall(frame(STDOUT, bytes(100_000)))
        except OSError:
            pass

    threading.Thread(target=flood, daemon=True).start()
    with pytest.raises(EngineError, match="the container wrote 1 MiB without reading what it was sent"):
        stream.send(bytes(50_000_000))


def test_closing_wakes_a_reader_and_a_sender(pair: Pair) -> None:
    stream, _ = pair
    ended: list[object] = []

    def sending() -> None:
        try:
            stream.send(bytes(50_000_000))
        except EngineError as error:
            ended.append(str(error)[:35])

    threads = [
        threading.Thread(target=lambda: ended.append(stream.read(None))),
        threading.Thread(target=sending),
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    stream.close()
    for thread in threads:
        thread.join(5)
    assert sorted(map(str, ended)) == ["[]", "the container does not listen any m"]


@pytest.mark.parametrize(
    ("text", "parts", "registry"),
    [
        ("python", ("python", "latest", ""), "Docker Hub"),
        ("python:3.13", ("python", "3.13", ""), "Docker Hub"),
        ("nvidia/cuda:12", ("nvidia/cuda", "12", ""), "Docker Hub"),
        ("localhost/x", ("localhost/x", "latest", ""), "localhost"),
        ("127.0.0.1:5000/x/y", ("127.0.0.1:5000/x/y", "latest", ""), "127.0.0.1:5000"),
        ("quay.io/x/y:1", ("quay.io/x/y", "1", ""), "quay.io"),
        ("quay.io/x/y@sha256:00", ("quay.io/x/y", "", "sha256:00"), "quay.io"),
        ("python:3@sha256:00", ("python", "3", "sha256:00"), "Docker Hub"),
    ],
)
def test_a_reference_has_three_parts(text: str, parts: tuple[str, str, str], registry: str) -> None:
    found = Reference.parse(text)
    assert (found.repository, found.tag, found.digest) == parts
    assert found.registry == registry


def test_the_digest_of_a_repository_is_found_under_all_its_names() -> None:
    digests = ["other@sha256:11", "python@sha256:22"]
    for name in ("python", "library/python", "docker.io/library/python:3"):
        assert Reference.parse(name).digest_in(digests) == "sha256:22"
    assert Reference.parse("quay.io/python").digest_in(digests) is None


@pytest.mark.parametrize(
    "said",
    [
        'Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io on 10.0.0.1:53: no such host',
        'Get "http://localhost:5999/v2/": dial tcp 127.0.0.1:5999: connect: connection refused',
        'Get "https://registry-1.docker.io/v2/": net/http: request canceled (Client.Timeout exceeded)',
        "net/http: TLS handshake timeout",
        'Head "https://x/v2/y/manifests/1": EOF',
        "dial tcp 1.2.3.4:443: i/o timeout",
        "received unexpected HTTP status: 503 Service Unavailable",
    ],
)
def test_a_registry_that_gives_no_answer_is_not_reached(said: str) -> None:
    assert means_unreachable(said)


@pytest.mark.parametrize(
    "said",
    [
        "manifest for python:nope not found: manifest unknown: manifest unknown",
        "pull access denied for nope, repository does not exist or may require 'docker login': denied",
        "unauthorized: authentication required",
        "no basic auth credentials",
    ],
)
def test_a_registry_that_refuses_is_reached(said: str) -> None:
    assert means_refused(said)
    assert not means_unreachable(said)


def test_a_certificate_that_is_not_trusted_is_no_reason_to_go_without_the_registry() -> None:
    assert not means_unreachable("tls: failed to verify certificate: x509: unknown authority; timeout")


def test_names_of_layers_are_what_docker_allows() -> None:
    assert tag("abc", "") == "imagebuild/layer:abc"
    assert repository("Run_1--x.") == "imagebuild/run-run-1-x"
    with pytest.raises(EngineError, match="'a/b' cannot name a layer"):
        tag("a/b", "")


def test_times_of_the_api_are_read() -> None:
    assert seconds("1970-01-02T00:00:01.123456789Z") == 86401
    assert seconds("1970-01-01T00:00:00Z") == 0


Execute = Callable[..., tuple[int, bytes, list[str]]]


@pytest.fixture
def execute(tmp_path: Path) -> Execute:
    """Execute a script with this machine's shell, with the watch for the end of input taken out."""

    def execute(*commands: str, **environment: str) -> tuple[int, bytes, list[str]]:
        script = Script(
            commands=commands,
            shell=("/bin/sh", "-c"),
            environment=environment,
            memory_files=[],
            removed_files=[],
            removed_folders=[],
            one_stream=False,
        )
        text = script.text.replace("kill -KILL -1", "true")
        done = subprocess.run(["/bin/sh"], input=text.encode(), capture_output=True, timeout=30, check=False)
        errors = done.stderr.decode().replace(script.mark, "mark ").splitlines()
        return done.returncode, done.stdout, errors

    return execute


def test_a_script_marks_each_command_and_the_end(execute: Execute) -> None:
    assert execute("echo a", "echo b") == (0, b"a\nb\n", ["mark 0", "mark 1", "mark 2"])


def test_a_script_ends_with_the_status_of_what_failed(execute: Execute) -> None:
    assert execute("echo a", "exit 7", "echo c") == (7, b"a\n", ["mark 0", "mark 1"])
    assert execute("kill -TERM $$")[0] == 143


def test_a_script_is_read_whole_before_it_does_anything(execute: Execute) -> None:
    assert execute("cat", "echo b") == (0, b"b\n", ["mark 0", "mark 1", "mark 2"])


@pytest.mark.parametrize("text", ["", "a b", "it's", "'''", '$x `y` \\ "z"', "a\nb\n", "!#~*", "ünï"])
def test_a_quoted_text_stays_as_it_is(execute: Execute, text: str) -> None:
    assert execute(f"printf %s {quote(text)}")[1].decode() == text
    assert execute('printf %s "$VALUE"', VALUE=text)[1].decode() == text


def test_a_command_that_no_shell_can_hold_is_refused() -> None:
    with pytest.raises(EngineError, match="holds a NUL byte"):
        quote("a\0b")


def test_a_container_is_removed_beside_what_is_done_next() -> None:
    api, going = mock.Mock(), threading.Event()
    api.remove_container.side_effect = lambda *_, **__: going.wait(10)
    removals = Removals(api)
    removals.begin("one")
    removals.begin("two")
    assert not going.is_set()
    going.set()
    removals.settle()
    removals.close()
    removals.begin("late")
    assert [call.args for call in api.remove_container.call_args_list] == [("one",), ("two",), ("late",)]


def test_a_container_that_cannot_be_removed_spoils_nothing_that_was_made_in_it() -> None:
    removals = Removals(mock.Mock(remove_container=mock.Mock(side_effect=docker.errors.APIError("no"))))
    removals.begin("one")
    removals.settle()
    removals.remove("two")


def test_folders_of_dead_processes_are_removed(tmp_path: Path) -> None:
    mine, living, dead = (Owner(run="r", cache_dir=tmp_path) for _ in range(3))
    parent = tmp_path / "contexts"
    assert mine.remove_folders_of_dead(parent) == 0
    for owner in (mine, living, dead):
        (owner.folder(parent) / "sub").mkdir(parents=True)
    dead.release()
    assert mine.remove_folders_of_dead(parent) == 1
    assert sorted(parent.iterdir()) == sorted([mine.folder(parent), living.folder(parent)])
    for owner in (mine, living):
        owner.release()


def test_lock_files_of_dead_processes_go_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, living, dead = (Owner(run="r", cache_dir=tmp_path) for _ in range(3))
    with monkeypatch.context() as there:
        there.setattr("pytest_imagebuild.engines.owner._host", lambda: "another machine")
        elsewhere = Owner(run="r", cache_dir=tmp_path)
    locks = {owner: Path(owner.labels["imagebuild.lock"]) for owner in (mine, living, dead, elsewhere)}
    for owner in (dead, elsewhere):
        owner.release()
        locks[owner].touch()
    mine.remove_locks_of_dead()
    assert locks[dead].exists(), "it may be that of a process which is about to take it"
    for path in locks.values():
        os.utime(path, (1, 1))
    mine.remove_locks_of_dead()
    assert set((tmp_path / "runs").iterdir()) == {locks[mine], locks[living], locks[elsewhere]}
    assert not mine.is_dead(living.labels)
    for owner in (mine, living):
        owner.release()


def test_an_owner_is_dead_when_its_lock_is_free_or_gone(tmp_path: Path) -> None:
    mine, other = (Owner(run="r", cache_dir=tmp_path) for _ in range(2))
    assert not mine.is_dead(mine.labels)
    assert not mine.is_dead(other.labels)
    assert not mine.is_dead({**other.labels, "imagebuild.host": "elsewhere"})
    assert not mine.is_dead({})
    other.release()
    assert mine.is_dead(other.labels)
    Path(other.labels["imagebuild.lock"]).touch()
    assert mine.is_dead(other.labels)
    assert not Path(other.labels["imagebuild.lock"]).exists()
    mine.release()
    assert list((tmp_path / "runs").iterdir()) == []
