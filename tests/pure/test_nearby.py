"""An engine that another process answers for: what it is asked, and what is done where it does not answer."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_imagebuild.engines.layers import BuiltLayer, LayerLabels
from pytest_imagebuild.engines.protocol import Capabilities, Engine, SessionSpec
from pytest_imagebuild.engines.uses import Uses
from pytest_imagebuild.errors import EngineError, EngineUnavailableError
from pytest_imagebuild.keeping import answering, nearby
from pytest_imagebuild.keeping.door import Line, call, listen, near, place_of
from pytest_imagebuild.keeping.kept import Kept
from pytest_imagebuild.keeping.rows import capabilities_of, layer_of, row_of_capabilities, row_of_layer

CAPABILITIES = Capabilities(
    engine="docker", version="1", platform="linux/amd64", identity="store", host_network=True, unenforced={"cpu": "no"}
)
ASKED = "auto"


class _Engine:
    """Has the layers of some keys, and notes what it is asked."""

    name = "docker"

    def __init__(self, *keys: str) -> None:
        self.keys = {*keys}
        self.asked: list[tuple[object, ...]] = []

    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    def find(self, key: str, namespace: str = "") -> BuiltLayer | None:
        self.asked.append(("find", key, namespace))
        return _layer(key) if key in self.keys else None

    def layers(self, namespace: str = "") -> Mapping[str, BuiltLayer]:
        self.asked.append(("layers", namespace))
        return {key: _layer(key) for key in self.keys}

    def gpus(self) -> object:
        return "gpus"

    def start(self, layer: object, spec: object) -> object:
        return layer, spec

    def sweep(self, claimed: Mapping[str, float] | None = None) -> int:
        self.asked.append(("sweep", dict(claimed or {})))
        return 3

    def close(self) -> None:
        self.asked.append(("close",))


def _layer(key: str) -> BuiltLayer:
    labels = LayerLabels(key=key, parent="p", generation="g", run="r", step="s", inputs={"a": "b"})
    return BuiltLayer(labels=labels, reference=f"ref {key}", size=12, created=1.5)


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> _Engine:
    """Return the engine of the other process."""
    engine = _Engine("a", "b")
    monkeypatch.setattr(answering, "choose_engine", lambda asked, *, run, cache_dir: engine)
    return engine


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> _Engine:
    """Return the engine that is opened here, if need be."""
    engine = _Engine("c")
    monkeypatch.setattr(nearby, "choose_engine", lambda asked, *, run, cache_dir: engine)
    return engine


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return the folder in which the other process listens; it is noted where it is."""
    place = place_of(tmp_path, cast("Engine", _Engine()))
    place.mkdir(parents=True)
    noted = near(tmp_path, ASKED)
    noted.parent.mkdir()
    noted.write_text(str(place))
    return place


@pytest.fixture
def serve(place: Path) -> Iterator[Callable[[Callable[[Line], None]], None]]:
    """Return what lets one connection be answered in a thread."""
    threads = []

    def begin(answer: Callable[[Line], None]) -> None:
        listener = listen(place)

        def serving() -> None:
            with listener, closing(Line(listener.accept()[0])) as line:
                answer(line)

        threads.append(threading.Thread(target=serving))
        threads[-1].start()

    yield begin
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def _nearby(tmp_path: Path, meanwhile: Callable[[], object] = bool) -> Engine | None:
    return nearby.nearby(ASKED, run="run", cache_dir=tmp_path, meanwhile=meanwhile)


def _answers(tmp_path: Path) -> Callable[[Line], None]:
    def answer(line: Line) -> None:
        received = line.receive()
        assert received is not None
        assert received[0] == {"engine": ASKED}
        answering.answer_for(ASKED, tmp_path, line)

    return answer


def test_layers_and_capabilities_go_through_json() -> None:
    assert layer_of(json.loads(json.dumps(row_of_layer(_layer("a"))))) == _layer("a")
    assert capabilities_of(json.loads(json.dumps(row_of_capabilities(CAPABILITIES)))) == CAPABILITIES


def test_it_answers_what_most_runs_ask_and_sweeps_when_they_end(
    serve: Callable[[Callable[[Line], None]], None], theirs: _Engine, ours: _Engine, tmp_path: Path
) -> None:
    uses = Uses(tmp_path, "store")
    uses.claim(["claimed"])
    serve(_answers(tmp_path))
    engine = _nearby(tmp_path)
    assert engine is not None
    assert (engine.name, engine.capabilities()) == ("docker", CAPABILITIES)
    assert engine.find("a") == _layer("a")
    assert engine.find("c", "mine") is None
    layers = engine.layers()
    assert (layers.get("b"), layers.get("c")) == (_layer("b"), None)
    assert engine.sweep() == 0
    assert theirs.asked == [("find", "a", ""), ("find", "c", "mine"), ("find", "b", ""), ("find", "c", "")]
    theirs.asked.clear()
    for _ in range(2):
        engine.close()
    assert ours.asked == []
    _wait(lambda: len(theirs.asked) == 2)
    (swept, claimed), closed = theirs.asked
    assert (swept, [*cast("dict[str, float]", claimed)], closed) == ("sweep", ["claimed"], ("close",))
    uses.release()


def test_many_layers_are_taken_from_one_list_and_a_new_look_takes_a_new_one(
    serve: Callable[[Callable[[Line], None]], None],
    theirs: _Engine,
    ours: _Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answering, "_FEW", 1)
    serve(_answers(tmp_path))
    engine = _nearby(tmp_path)
    assert engine is not None
    with closing(cast("Any", engine)):
        first = engine.layers("run")
        assert [first.get(key) for key in ("a", "b", "new")] == [_layer("a"), _layer("b"), None]
        assert theirs.asked == [("find", "a", "run"), ("layers", "run")]
        theirs.keys.add("new")
        assert first.get("new") is None
        second = engine.layers("run")
        assert [second.get(key) for key in ("a", "new")] == [_layer("a"), _layer("new")]
        assert ours.asked == []


def test_for_all_else_an_engine_is_opened_here_and_asked_from_then_on(
    serve: Callable[[Callable[[Line], None]], None], theirs: _Engine, ours: _Engine, tmp_path: Path
) -> None:
    serve(_answers(tmp_path))
    engine = _nearby(tmp_path)
    assert engine is not None
    layers = engine.layers()
    assert cast("object", engine.start(cast("Any", 1), cast("Any", 2))) == (1, 2)
    assert cast("object", engine.gpus()) == "gpus"
    assert engine.find("c") == _layer("c")
    assert layers.get("c") == _layer("c")
    assert [*engine.layers()] == ["c"]
    engine.close()
    assert ours.asked == [("find", "c", ""), ("find", "c", ""), ("layers", ""), ("close",)]


def test_every_layer_is_listed_by_an_engine_here(
    serve: Callable[[Callable[[Line], None]], None], theirs: _Engine, ours: _Engine, tmp_path: Path
) -> None:
    serve(_answers(tmp_path))
    engine = _nearby(tmp_path)
    assert engine is not None
    assert [*engine.layers()] == ["c"]
    engine.close()


def test_one_that_ends_in_the_middle_is_replaced_by_an_engine_here(
    serve: Callable[[Callable[[Line], None]], None], ours: _Engine, tmp_path: Path
) -> None:
    def answer(line: Line) -> None:
        line.receive()
        line.send({"capabilities": row_of_capabilities(CAPABILITIES)})
        line.receive()

    serve(answer)
    engine = _nearby(tmp_path)
    assert engine is not None
    assert engine.find("c") == _layer("c")
    assert engine.find("a") is None
    assert engine.sweep() == 3
    engine.close()
    assert ours.asked == [("find", "c", ""), ("find", "a", ""), ("sweep", {}), ("close",)]


@pytest.mark.parametrize(
    "answer", [b"", b"not json\n", b"[]\n", b"{}\n", b'{"capabilities": 1}\n', b'{"capabilities": {"a": 1}}\n']
)
def test_whatever_else_it_answers_is_no_engine(place: Path, tmp_path: Path, answer: bytes) -> None:
    listener = listen(place)

    def say() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(4096)
            connection.sendall(answer)

    thread = threading.Thread(target=say)
    thread.start()
    assert _nearby(tmp_path) is None
    thread.join(20)


def test_a_silent_one_is_not_waited_for_long(
    serve: Callable[[Callable[[Line], None]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearby, "_FIRST_ANSWER_SECONDS", 0.1)
    heard = threading.Event()
    serve(lambda line: cast("None", heard.wait(20)))
    assert _nearby(tmp_path) is None
    heard.set()


def test_an_engine_that_does_not_answer_there_is_chosen_here(
    serve: Callable[[Callable[[Line], None]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(asked: str, *, run: str, cache_dir: Path) -> Engine:
        raise EngineUnavailableError("down")

    def answer(line: Line) -> None:
        with suppress(EngineError):
            _answers(tmp_path)(line)

    monkeypatch.setattr(answering, "choose_engine", choose)
    serve(answer)
    assert _nearby(tmp_path) is None


def test_what_is_done_meanwhile_is_done_before_the_answer_is_read(
    serve: Callable[[Callable[[Line], None]], None], theirs: _Engine, tmp_path: Path
) -> None:
    done = threading.Event()

    def answer(line: Line) -> None:
        assert done.wait(20)
        _answers(tmp_path)(line)

    serve(answer)
    engine = _nearby(tmp_path, done.set)
    assert engine is not None
    engine.close()


@pytest.mark.parametrize("noted", ["", "nowhere", "\0", None])
def test_without_such_a_process_there_is_none(place: Path, tmp_path: Path, noted: str | None) -> None:
    file = near(tmp_path, ASKED)
    if noted is None:
        file.unlink()
    else:
        file.write_text(noted)
    assert _nearby(tmp_path) is None


@pytest.mark.parametrize(
    "name", ["DOCKER_HOST", "DOCKER_CONTEXT", "HOME", "XDG_RUNTIME_DIR", "IMAGEBUILD_EMBEDDED_IDS"]
)
def test_another_way_to_an_engine_leads_to_another_process(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    engine = cast("Engine", _Engine())
    with monkeypatch.context() as changed:
        changed.setenv(name, "other")
        assert place_of(tmp_path, engine) != place
        assert not near(tmp_path, ASKED).exists()
    monkeypatch.setenv("OTHER", "variable")
    assert place_of(tmp_path, engine) == place
    assert near(tmp_path, ASKED).exists()


def test_the_process_that_keeps_containers_is_noted_as_the_one_to_ask(
    serve: Callable[[Callable[[Line], None]], None], place: Path, tmp_path: Path
) -> None:
    near(tmp_path, ASKED).write_text("another")
    kept = Kept(cast("Engine", _Engine()), tmp_path, run="run", seconds=60, asked=ASKED)
    serve(lambda line: line.send({"waiting": 1} if line.receive() else {}))
    kept.keep([(_layer("a"), SessionSpec(command=("start",)))])
    assert near(tmp_path, ASKED).read_text() == str(place)
    assert [path.name for path in near(tmp_path, ASKED).parent.iterdir()] == [near(tmp_path, ASKED).name]


def test_a_process_of_another_user_is_not_talked_to(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listen(place) as listener:
        listener.settimeout(5)
        line = call(place)
        assert line is not None
        line.close()
        mine = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: mine + 1)
        assert call(place) is None


def _wait(look: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(400):
        if look():
            return
        pause.wait(0.05)
    raise AssertionError("it did not come to that")
