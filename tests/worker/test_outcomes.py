"""The outcome of a test in a worker is what plain pytest gives."""

from __future__ import annotations

from typing import Any

import pytest
from live_worker import Makes


def test_a_passing_test_has_three_reports(worker: Makes) -> None:
    run = worker("def test_it(): pass").start().run("test_it.py::test_it")

    assert run.outcomes == {"setup": "passed", "call": "passed", "teardown": "passed"}


def test_a_failing_test_says_why(worker: Makes) -> None:
    run = (
        worker(
            """
        def test_it() -> None:
            assert {"a": 1} == {"a": 2}
        """
        )
        .start()
        .run("test_it.py::test_it")
    )

    assert run.outcomes["call"] == "failed"
    assert run.failure.startswith("AssertionError: assert {'a': 1} == {'a': 2}")
    assert '>       assert {"a": 1} == {"a": 2}' in run.lines


@pytest.mark.parametrize(
    ("body", "outcome", "reason"),
    [
        ("pytest.skip('not today')", "skipped", "Skipped: not today"),
        ("pytest.importorskip('no_such_module')", "skipped", "Skipped: could not import 'no_such_module'"),
    ],
)
def test_a_skip_keeps_its_reason_and_is_a_tuple(worker: Makes, body: Any, outcome: Any, reason: Any) -> None:
    run = worker(f"import pytest\ndef test_it(): {body}").start().run("test_it.py::test_it")

    report = run.reports["call"]
    assert report["outcome"] == outcome
    assert isinstance(report["longrepr"], tuple)
    assert report["longrepr"][2].startswith(reason)


def test_an_expected_failure_keeps_its_reason(worker: Makes) -> None:
    run = (
        worker(
            """
        import pytest

        @pytest.mark.xfail(reason="known")
        def test_it() -> None:
            assert False
        """
        )
        .start()
        .run("test_it.py::test_it")
    )

    assert run.outcomes["call"] == "skipped"
    assert run.reports["call"]["wasxfail"] == "known"


def test_a_strict_xfail_that_passes_fails(worker: Makes) -> None:
    run = (
        worker(
            """
        import pytest

        @pytest.mark.xfail(strict=True, reason="known")
        def test_it() -> None:
            pass
        """
        )
        .start()
        .run("test_it.py::test_it")
    )

    assert run.outcomes["call"] == "failed"
    assert run.failure == "[XPASS(strict)] known"


def test_an_error_in_a_fixture_fails_the_setup(worker: Makes) -> None:
    run = (
        worker(
            """
        import pytest

        @pytest.fixture
        def broken():
            raise ValueError("no luck")

        def test_it(broken) -> None:
            pass
        """
        )
        .start()
        .run("test_it.py::test_it")
    )

    assert run.outcomes == {"setup": "failed", "teardown": "passed"}
    assert run.failure == "ValueError: no luck"


def test_parametrized_items_are_found_by_their_ids(worker: Makes) -> None:
    live = worker(
        """
        import pytest

        @pytest.mark.parametrize("value", ["a/b", "c::d", "[e]", "ü"])
        def test_it(value) -> None:
            assert value != "c::d"
        """
    ).start()

    assert live.run("test_it.py::test_it[a/b]").outcomes["call"] == "passed"
    assert live.run("test_it.py::test_it[c::d]").outcomes["call"] == "failed"
    assert live.run("test_it.py::test_it[[e]]").outcomes["call"] == "passed"
    assert live.run("test_it.py::test_it[\\xfc]").outcomes["call"] == "passed"


def test_a_unittest_case_runs_with_its_fixtures(worker: Makes) -> None:
    live = worker(
        """
        import unittest

        class TestOld(unittest.TestCase):
            @classmethod
            def setUpClass(cls):
                cls.value = 1

            def test_good(self) -> None:
                self.assertEqual(self.value, 1)

            def test_bad(self) -> None:
                self.assertEqual(self.value, 2)

            @unittest.skip("later")
            def test_later(self) -> None:
                pass
        """
    ).start()

    assert live.run("test_it.py::TestOld::test_good").outcomes["call"] == "passed"
    assert live.run("test_it.py::TestOld::test_bad").failure == "AssertionError: 1 != 2"
    skipped = live.run("test_it.py::TestOld::test_later").reports
    assert [data["longrepr"][2] for data in skipped.values() if data["outcome"] == "skipped"] == ["Skipped: later"]


def test_the_builtin_fixtures_work(worker: Makes) -> None:
    live = worker(
        """
        import logging, os, sys

        def test_capsys(capsys) -> None:
            print("seen")
            assert capsys.readouterr().out == "seen\\n"

        def test_capfd(capfd) -> None:
            os.system("echo seen")
            assert capfd.readouterr().out == "seen\\n"

        def test_caplog(caplog) -> None:
            logging.warning("seen")
            assert caplog.messages == ["seen"]

        def test_tmp_path(tmp_path) -> None:
            os.system(f"echo seen > {tmp_path}/file")
            assert (tmp_path / "file").read_text() == "seen\\n"

        def test_monkeypatch(monkeypatch) -> None:
            monkeypatch.setenv("NEW", "seen")
            assert os.environ["NEW"] == "seen"
        """
    ).start()

    for name in ("capsys", "capfd", "caplog", "tmp_path", "monkeypatch"):
        assert live.run(f"test_it.py::test_{name}").outcomes["call"] == "passed", name


def test_captured_output_is_in_the_sections(worker: Makes) -> None:
    run = (
        worker(
            """
        import logging, os, sys

        def test_it() -> None:
            print("to stdout")
            print("to stderr", file=sys.stderr)
            os.system("echo from a child")
            logging.warning("to the log")
        """
        )
        .start()
        .run("test_it.py::test_it")
    )

    sections = dict(run.reports["teardown"]["sections"])
    assert sections["Captured stdout call"] == "to stdout\nfrom a child\n"
    assert sections["Captured stderr call"] == "to stderr\n"
    assert "to the log" in sections["Captured log call"]
    assert run.output == ""
