# A message of another kind than the test expects fails it where it is used.
# mypy: disable-error-code="union-attr, index, arg-type, attr-defined"
"""Fixtures live exactly as long as their scope says, given the next item of the same session."""

from __future__ import annotations

from typing import Any

import pytest
from live_worker import Makes

from pytest_imagebuild.session.messages import Done, Report

TRACED = """
    import pytest

    def log(text):
        with open("trace.txt", "a") as file:
            file.write(text + "\\n")

    @pytest.fixture(scope="session")
    def s():
        log("+session")
        yield
        log("-session")

    @pytest.fixture(scope="module")
    def m():
        log("+module")
        yield
        log("-module")

    @pytest.fixture(scope="class")
    def c():
        log("+class")
        yield
        log("-class")

    class TestOne:
        def test_a(self, s, m, c) -> None:
            log("a")

        def test_b(self, s, m, c) -> None:
            log("b")

    class TestTwo:
        def test_c(self, s, m, c) -> None:
            log("c")
"""


def trace(live: Any) -> list[str]:
    path = live.project / "trace.txt"
    return path.read_text().split() if path.exists() else []


def test_scopes_end_where_the_next_item_does_not_need_them(worker: Makes) -> None:
    live = worker(TRACED).start()

    live.run("test_it.py::TestOne::test_a", "test_it.py::TestOne::test_b")
    live.run("test_it.py::TestOne::test_b", "test_it.py::TestTwo::test_c")
    assert trace(live) == ["+session", "+module", "+class", "a", "b", "-class"]

    live.run("test_it.py::TestTwo::test_c", None)
    assert trace(live)[6:] == ["+class", "c", "-class", "-module", "-session"]


def test_finish_tears_down_what_was_kept_for_an_item_that_never_came(worker: Makes) -> None:
    live = worker(TRACED).start()

    live.run("test_it.py::TestOne::test_a", "test_it.py::TestOne::test_b")
    assert live.finish() == []
    assert trace(live) == ["+session", "+module", "+class", "a", "-class", "-module", "-session"]


def test_a_broken_promise_of_the_next_item_is_made_good_first(worker: Makes) -> None:
    live = worker(TRACED).start()

    live.run("test_it.py::TestOne::test_a", "test_it.py::TestOne::test_b")
    run = live.run("test_it.py::TestTwo::test_c", None)

    assert run.outcomes["call"] == "passed"
    assert trace(live)[:6] == ["+session", "+module", "+class", "a", "-class", "+class"]


LATE = """
    import pytest

    @pytest.fixture(scope="class")
    def late():
        yield
        print("on the way out")
        raise RuntimeError("too late")

    class TestOne:
        def test_a(self, late) -> None:
            pass

        def test_b(self, late) -> None:
            pass

    def test_c() -> None:
        pass
"""


def test_a_failure_of_a_late_teardown_is_reported_for_the_item_that_ran_last(worker: Makes) -> None:
    live = worker(LATE).start()

    live.run("test_it.py::TestOne::test_a", "test_it.py::TestOne::test_b")
    run = live.run("test_it.py::test_c", None)

    first, *others = [message for message in run.messages if isinstance(message, Report)]
    assert (first.item, first.data["when"], first.data["outcome"]) == (
        "test_it.py::TestOne::test_a",
        "teardown",
        "failed",
    )
    assert ("Captured stdout teardown", "on the way out\n") in first.data["sections"]
    assert [other.data["outcome"] for other in others] == ["passed", "passed", "passed"]


def test_an_item_that_is_missing_does_not_hide_a_late_failure(worker: Makes) -> None:
    live = worker(LATE).start()

    live.run("test_it.py::TestOne::test_a", "test_it.py::TestOne::test_b")
    assert live.run("test_it.py::no_such_test").missing is not None
    run = live.run("test_it.py::test_c", None)

    first = next(message for message in run.messages if isinstance(message, Report))
    assert first.item == "test_it.py::TestOne::test_a"


def test_a_failure_of_the_last_teardown_comes_with_finish(worker: Makes) -> None:
    live = worker(LATE).start()

    live.run("test_it.py::TestOne::test_a", "test_it.py::TestOne::test_b")
    (report,) = live.finish()

    assert report.item == "test_it.py::TestOne::test_a"
    assert report.data["longrepr"]["reprcrash"]["message"] == "RuntimeError: too late"


def test_the_failure_that_reaches_maxfail_tears_everything_down(worker: Makes) -> None:
    live = worker(TRACED.replace('log("a")', "assert False")).start(options={"maxfail": 3})

    live.run("test_it.py::TestOne::test_a", "test_it.py::TestOne::test_b", failed=2)
    if live.session.ready.pytest.startswith("7."):
        pytest.skip("pytest 7 leaves it to the end of the session")

    assert trace(live) == ["+session", "+module", "+class", "-class", "-module", "-session"]


def test_a_failure_below_maxfail_keeps_fixtures(worker: Makes) -> None:
    live = worker(TRACED.replace('log("a")', "assert False")).start(options={"maxfail": 3})

    live.run("test_it.py::TestOne::test_a", "test_it.py::TestOne::test_b", failed=1)

    assert trace(live) == ["+session", "+module", "+class"]


def test_what_the_container_asks_to_stop_is_told(worker: Makes) -> None:
    live = worker(
        """
        def test_it(request) -> None:
            request.session.shouldstop = "enough seen"
        """
    ).start()

    assert live.run("test_it.py::test_it").stop == "enough seen"


def test_items_can_be_asked_for_ahead(worker: Makes) -> None:
    live = worker("import pytest\n@pytest.mark.parametrize('i', range(3))\ndef test_it(i): assert i != 1").start()
    ids = [f"test_it.py::test_it[{number}]" for number in range(3)]

    outcomes = []
    for here, (ahead, after) in ((0, (1, 2)), (1, (2, None))):
        messages = list(
            live.session.run(ids[here], ids[ahead], 0, 20, ahead=[(ids[ahead], ids[after] if after else None)])
        )
        outcomes += [message.data["outcome"] for message in messages if isinstance(message, Report)]
    outcomes += live.run(ids[2]).outcomes.values()

    assert outcomes == ["passed", "passed", "passed", "passed", "failed", "passed", "passed", "passed", "passed"]


def test_what_is_ahead_of_a_failure_is_dropped(worker: Makes) -> None:
    live = worker("import pytest\n@pytest.mark.parametrize('i', range(40))\ndef test_it(i): assert i != 1").start()
    ids = [f"test_it.py::test_it[{number}]" for number in range(40)]
    pairs = list(zip(ids, [*ids[1:], None], strict=True))

    first = list(live.session.run(*pairs[0], 0, 20, ahead=pairs[1:]))
    failing = list(live.session.run(*pairs[1], 0, 20))
    last = list(live.session.run(*pairs[-1], 1, 20))

    assert [message.waits for message in (first[-1], failing[-1], last[-1]) if isinstance(message, Done)] == [
        False,
        True,
        False,
    ]
    assert {message.data["nodeid"] for message in last if isinstance(message, Report)} == {ids[-1]}


def test_what_is_ahead_of_a_stop_is_dropped(worker: Makes) -> None:
    live = worker(
        """
        import pytest
        @pytest.mark.parametrize("number", range(3))
        def test_it(request, number):
            if number == 0:
                request.session.shouldstop = "enough seen"
        """
    ).start()
    ids = [f"test_it.py::test_it[{number}]" for number in range(3)]

    (*_, done) = live.session.run(ids[0], ids[1], 0, 20, ahead=[(ids[1], ids[2]), (ids[2], None)])

    assert done == Done(item=ids[0], stop="enough seen", waits=True)
    assert list(live.session.finish(20)) == []
