"""Whatever a container sends, the user's pytest goes on, ends, and runs nothing of it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from doubles import plugin_arguments
from hostile import FILE, ITEMS, HostileContainer, conversations, honest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from pytest_imagebuild.dispatch import early
from pytest_imagebuild.engines.memory import MemoryEngine
from pytest_imagebuild.errors import ImageBuildError, WireError
from pytest_imagebuild.session.session import Session
from pytest_imagebuild.session.setup import Setup
from pytest_imagebuild.session.wire import Parser
from pytest_imagebuild.worker.protocol import MAX_LINE, encode

ALIKE = settings(
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
"""The same examples in every run, and no time spent on making one that fails smaller."""

OUTCOMES = ("passed", "failed", "errors", "skipped", "xfailed", "xpassed", "rerun")

TEST = """
import pytest
from pytest_imagebuild import Image

pytestmark = pytest.mark.image(Image.from_registry("debian:trixie"))


def test_one(): raise SystemExit("it runs here")


def test_two(): raise SystemExit("it runs here")
"""


@settings(ALIKE, max_examples=300)
@given(st.lists(st.binary(max_size=60) | conversations().map(b"".join), max_size=4))
def test_the_parser_gives_messages_or_refuses(pieces: list[bytes]) -> None:
    parser = Parser()
    for piece in pieces:
        try:
            for message in parser.feed(piece):
                assert type(message).__module__ == "pytest_imagebuild.session.messages"
        except WireError:
            return


@settings(ALIKE, max_examples=150)
@given(conversations())
def test_a_session_ends_by_itself_or_with_our_error(pieces: list[bytes]) -> None:
    container = HostileContainer(pieces)
    session = Session(container, Setup(cwd="/", rootdir="/"))
    session.begin()
    session.collect([FILE])
    try:
        for item in ITEMS:
            list(session.run(item, None, 0, 10.0))
        list(session.finish(10.0))
    except ImageBuildError:
        pass
    finally:
        session.stop()
    assert container.stopped


@settings(ALIKE, max_examples=50)
@given(conversations())
@example([b"".join(map(encode, honest()))])
def test_a_whole_run_has_an_outcome_for_each_test(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, pieces: list[bytes]
) -> None:
    containers: list[HostileContainer] = []

    def start(_layer: object, _spec: object) -> HostileContainer:
        containers.append(HostileContainer(pieces))
        return containers[-1]

    monkeypatch.setattr(early, "choose_engine", lambda _name, *, run, cache_dir: MemoryEngine(run=run, sessions=start))
    monkeypatch.setenv("IMAGEBUILD_CACHE_DIR", str(pytester.path / "cache"))
    pytester.makepyfile(test_it=TEST)
    begun = time.monotonic()
    result = pytester.runpytest_inprocess(
        *plugin_arguments(),
        "-p",
        "no:cacheprovider",
        "-p",
        "no:cov",
        "-rA",
        "--junitxml=junit.xml",
        no_reraise_ctrlc=True,
    )
    text = result.stdout.str() + result.stderr.str()
    assert result.ret in (0, 1, 2, 5), text
    assert "INTERNALERROR" not in text
    assert "it runs here" not in text
    assert time.monotonic() - begun < 60
    assert all(container.stopped for container in containers)
    if result.ret in (0, 1):
        outcomes = result.parseoutcomes()
        assert (
            sum(outcomes.get(name, 0) for name in ("passed", "failed", "errors", "skipped", "xfailed", "xpassed")) >= 2
        )
        assert "<testcase" in (pytester.path / "junit.xml").read_text("utf-8")


@pytest.mark.parametrize("kind", ["one endless line", "endless output", "endless warnings"])
def test_what_never_ends_costs_no_memory(kind: str, tmp_path: Path) -> None:
    import tracemalloc

    begin = b"".join(map(encode, honest()[:2]))
    endless = {
        "one endless line": b"x" * 65536,
        "endless output": encode({"type": "output", "stream": "stdout", "data": "y" * 60000}),
        "endless warnings": encode(honest()[4]),
    }[kind]
    session = Session(HostileContainer([begin, *[endless] * 2000]), Setup(cwd="/", rootdir="/"))
    session.begin()
    session.collect([FILE])
    tracemalloc.start()
    with pytest.raises(ImageBuildError):
        for _ in session.run(ITEMS[0], None, 0, 60.0):
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * MAX_LINE


def test_what_a_dead_container_said_last_moves_no_cursor() -> None:
    session = Session(HostileContainer([]), Setup(cwd="/", rootdir="/"))
    session.begin()
    with pytest.raises(ImageBuildError) as error:
        list(session.run(ITEMS[0], None, 0, 10.0))
    assert "last \\x1b[31mwords" in str(error.value)
