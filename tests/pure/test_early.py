"""Sessions that begin early: what is remembered, and who gets them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, cast

import pytest

from pytest_imagebuild.dispatch.early import EarlyContainers, Told, row
from pytest_imagebuild.engines.layers import BuiltLayer, LayerLabels
from pytest_imagebuild.engines.protocol import Container, SessionSpec
from pytest_imagebuild.engines.volumes import VolumeMount
from pytest_imagebuild.errors import EngineError
from pytest_imagebuild.last_time import recall, remember
from pytest_imagebuild.session.setup import Setup

SPEC = SessionSpec(command=("start",), memory=2**30, cpu=1.5, isolate=True)


TOLD = Told(definition="abc", files=("/p/test_it.py",), path=("/p",))


class _Channel:
    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, data: bytes) -> None:
        self.sent += map(json.loads, data.splitlines())

    def close(self) -> None:
        pass


class _Container:
    def __init__(self) -> None:
        self.stopped = 0
        self.channel = _Channel()

    def stop(self) -> None:
        self.stopped += 1


class _Engine:
    """Knows one layer, and starts containers of it, or raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self.layer = _layer("known")
        self.started: list[tuple[BuiltLayer, SessionSpec, _Container]] = []
        self._error = error

    def find(self, key: str) -> BuiltLayer | None:
        return self.layer if key == "known" else None

    def start(self, layer: BuiltLayer, spec: SessionSpec) -> Container:
        if self._error is not None:
            raise self._error
        self.started.append((layer, spec, _Container()))
        return cast("Container", self.started[-1][2])


def _layer(key: str, generation: str = "") -> BuiltLayer:
    labels = LayerLabels(key=key, parent="", generation=generation, run="r")
    return BuiltLayer(labels=labels, reference="ref", size=1, created=1.0)


def _early(engine: _Engine, *rows: object) -> EarlyContainers:
    crossed = json.loads(json.dumps(rows))
    return EarlyContainers(cast("Any", engine), crossed)


def test_a_container_goes_to_the_one_that_wants_exactly_it() -> None:
    engine = _Engine()
    early = _early(engine, row(engine.layer, SPEC))

    assert early.take(_layer("known", "newer"), SPEC) is None
    assert early.take(engine.layer, SessionSpec(command=("start",))) is None
    taken = early.take(engine.layer, SPEC)
    assert early.take(engine.layer, SPEC) is None
    early.close()

    ((layer, spec, container),) = engine.started
    assert (layer, spec) == (engine.layer, SPEC)
    assert taken is cast("Any", container)
    assert container.stopped == 0


def test_what_nobody_wants_is_ended() -> None:
    engine = _Engine()
    early = _early(engine, row(engine.layer, SPEC), row(engine.layer, SPEC), row(engine.layer, SPEC))

    early.keep([(engine.layer, SPEC), (_layer("other"), SPEC)])
    assert early.take(engine.layer, SPEC) is not None
    assert early.take(engine.layer, SPEC) is None
    early.close()

    assert sorted(container.stopped for _, _, container in engine.started) == [0, 1, 1]


def test_a_layer_that_is_gone_and_a_start_that_fails_are_no_error() -> None:
    engine = _Engine(EngineError("no"))
    early = _early(engine, row(_layer("gone"), SPEC), row(engine.layer, SPEC))

    assert early.take(engine.layer, SPEC) is None
    early.close()


def _setup(*_: object, told: Told = TOLD) -> Setup:
    return Setup(cwd="/p", rootdir="/p", args=told.files, path=told.path)


def test_a_worker_is_told_and_goes_to_the_one_that_would_tell_it_the_same() -> None:
    engine = _Engine()
    early = _early(engine, row(engine.layer, SPEC), row(engine.layer, SPEC, TOLD))
    early.let_start()
    early.tell(_setup)

    assert early.session(_layer("other"), SPEC, _setup()) is None
    assert early.session(engine.layer, SPEC, _setup()) is not None
    assert early.session(engine.layer, SPEC, _setup()) is None
    assert early.take(engine.layer, SPEC) is not None, "the one that was told nothing"
    assert early.trusts(TOLD)
    early.close()

    containers = [container for _, _, container in engine.started]
    assert [container.stopped for container in containers] == [0, 0]
    sent = [container.channel.sent for container in containers]
    assert sorted(len(requests) for requests in sent) == [0, 2]
    setup, collect = next(filter(None, sent))
    assert (setup["type"], setup["args"]) == ("setup", ["/p/test_it.py"])
    assert (collect["type"], collect["args"]) == ("collect", ["/p/test_it.py"])


def test_a_worker_that_was_told_something_else_is_ended_and_nobody_gets_its_container() -> None:
    engine = _Engine()
    early = _early(engine, row(engine.layer, SPEC, TOLD))
    early.tell(_setup)

    assert early.session(engine.layer, SPEC, _setup(told=replace(TOLD, files=("/p/test_other.py",)))) is None
    assert early.take(engine.layer, SPEC) is None
    assert not early.trusts(TOLD)
    early.close()

    ((_, _, container),) = engine.started
    assert container.stopped == 1


def test_a_worker_that_nobody_wants_is_ended() -> None:
    engine = _Engine()
    early = _early(engine, row(engine.layer, SPEC, TOLD))
    early.tell(_setup)
    early.close()

    ((_, _, container),) = engine.started
    assert container.stopped == 1


def test_a_start_that_fails_is_no_error_of_a_session() -> None:
    engine = _Engine(EngineError("no"))
    early = _early(engine, row(engine.layer, SPEC, TOLD))
    early.tell(_setup)

    assert early.session(engine.layer, SPEC, _setup()) is None
    early.close()


@pytest.mark.parametrize("broken", [None, 7, {}, [], ["known"], ["known", "start", "default", None, None, False]])
def test_a_row_that_is_none_starts_nothing(broken: object) -> None:
    engine = _Engine()
    _early(engine, broken).close()
    assert engine.started == []


def test_containers_with_gpus_or_volumes_are_not_remembered() -> None:
    layer = _layer("known")
    assert row(layer, SessionSpec(command=(), gpus=("0",))) is None
    mount = VolumeMount(name="v", path="/v", read_only=False)
    assert row(layer, SessionSpec(command=(), volumes=(mount,))) is None


def test_each_command_line_has_its_own_memory(pytester: pytest.Pytester) -> None:
    first, second = pytester.parseconfigure("-q"), pytester.parseconfigure("-v")
    remember(first, [["a", 1]])
    remember(second, [["b", 2]])

    assert recall(pytester.parseconfigure("-q")) == [["a", 1]]
    assert recall(pytester.parseconfigure("-v")) == [["b", 2]]
    assert recall(pytester.parseconfigure("-x")) == []


def test_no_more_than_twenty_command_lines_are_kept(pytester: pytest.Pytester) -> None:
    configs = [pytester.parseconfigure("-k", str(number)) for number in range(25)]
    for config in configs:
        remember(config, [["a"]])
    assert [recall(config) != [] for config in configs] == [False] * 5 + [True] * 20


@pytest.mark.parametrize("content", ["", "{", "7", "[1]", "[[1]]", '[["x", 1]]', "[[[], []]]"])
def test_a_memory_that_cannot_be_read_is_none(pytester: pytest.Pytester, content: str) -> None:
    config = pytester.parseconfigure()
    remember(config, [["a"]])
    (pytester.path / ".pytest_cache/v/imagebuild/containers").write_text(content)

    assert recall(config) == []
    remember(config, [["b"]])
    assert recall(config) == [["b"]]


def test_without_the_cache_nothing_is_remembered(pytester: pytest.Pytester) -> None:
    config = pytester.parseconfigure("-p", "no:cacheprovider")
    remember(config, [["a"]])
    assert recall(config) == []
