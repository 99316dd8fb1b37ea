# A message of another kind than the test expects fails it where it is used.
# mypy: disable-error-code="union-attr, index, arg-type, attr-defined"
"""What crosses the wire beside outcomes: texts, warnings, properties, live output."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
from _pytest.reports import TestReport as PytestReport
from live_worker import PYTHON, Makes

from pytest_imagebuild.session.messages import Output, Report
from pytest_imagebuild.session.reports import warning_message

FAILURES = """
    import pytest

    def test_strings() -> None:
        assert "one\\ntwo\\nthree" == "one\\n2\\nthree"

    def test_lists() -> None:
        assert [1, 2, 3] == [1, 2, 4]

    def test_calls() -> None:
        def value():
            return {"deep": [1, {"er": (1, 2)}]}
        assert value()["deep"][1] is None

    def test_chain() -> None:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error

    def test_approx() -> None:
        assert 0.1 + 0.2 == pytest.approx(0.4)

    def test_message() -> None:
        assert 1 == 2, "my own words"

    class Odd:
        def __repr__(self):
            raise RuntimeError("no repr")

    def test_no_repr() -> None:
        odd = Odd()
        assert odd is None
"""

PLAIN = """
import sys, pytest

class Printer:
    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            sys.__stdout__.write(f"=== {report.nodeid}\\n{report.longreprtext}\\n")

pytest.main(["-p", "no:cacheprovider", "--rootdir=.", "-q", "--no-header", "--no-summary", "."], plugins=[Printer()])
"""


def without_addresses(text: str) -> str:
    return re.sub("0x[0-9a-f]+", "0x0", text)


def test_failures_read_as_in_plain_pytest(worker: Makes) -> None:
    live = worker({"test_it.py": FAILURES}).start()
    names = ("strings", "lists", "calls", "chain", "approx", "message", "no_repr")
    ids = [f"test_it.py::test_{name}" for name in names]
    runs = [live.run(nodeid) for nodeid in ids]
    plain = subprocess.run(
        [PYTHON, "-c", PLAIN], cwd=live.project, capture_output=True, text=True, timeout=60, check=False
    ).stdout

    for nodeid, run in zip(ids, runs, strict=True):
        text = PytestReport._from_json(run.reports["call"]).longreprtext
        assert f"=== {nodeid}\n{without_addresses(text)}\n" in without_addresses(plain)


def test_comparisons_are_highlighted_when_the_controller_says_so(worker: Makes) -> None:
    live = worker("def test_it(): assert [1, 2] == [1, 3]").start(options={"color": "yes"})
    run = live.run("test_it.py::test_it")
    if live.session.ready.pytest.startswith("7."):
        pytest.skip("pytest 7 highlights no comparison")

    assert any("\x1b[" in line for line in run.lines)


def test_warnings_of_a_test_arrive_with_their_place(worker: Makes) -> None:
    run = (
        worker(
            """
        import warnings

        class OwnWarning(UserWarning):
            pass

        def test_it() -> None:
            warnings.warn("mine", OwnWarning)
            warnings.warn("old", DeprecationWarning)
        """
        )
        .start()
        .run("test_it.py::test_it")
    )

    own, old = run.warnings
    assert (own.category, own.module, own.message, own.lineno) == ("OwnWarning", "test_it", "mine", 7)
    assert own.nodeid == "test_it.py::test_it"
    assert own.filename.endswith("test_it.py")
    assert warning_message(old).category is DeprecationWarning
    assert warning_message(own).category.__name__ == "OwnWarning"


def test_filters_of_warnings_hold_inside(worker: Makes) -> None:
    live = worker(
        {
            "pytest.ini": "[pytest]\nfilterwarnings = error::RuntimeWarning",
            "test_it.py": """
                import warnings

                def test_ini() -> None:
                    warnings.warn("bad", RuntimeWarning)

                def test_option() -> None:
                    warnings.warn("bad", FutureWarning)
            """,
        }
    )
    live.start(inifile=str(live.project / "pytest.ini"), options={"pythonwarnings": ["error::FutureWarning"]})

    assert live.run("test_it.py::test_ini").failure == "RuntimeWarning: bad"
    assert live.run("test_it.py::test_option").failure == "FutureWarning: bad"


def test_properties_of_any_type_get_across(worker: Makes) -> None:
    run = (
        worker(
            """
        from pathlib import Path

        class Bad:
            def __str__(self):
                raise ValueError("no text")

        def test_it(record_property) -> None:
            loop = []
            loop.append(loop)
            for name, value in {
                "set": {1}, "path": Path("/x"), "bytes": b"x", "nan": float("nan"), "bad": Bad(),
                "loop": loop, "keys": {(1, 2): 3}, "huge": 10**5000, "surrogate": "\\udc80", "plain": 1.5,
            }.items():
                record_property(name, value)
        """
        )
        .start()
        .run("test_it.py::test_it")
    )

    assert run.outcomes["call"] == "passed"
    properties = dict(run.reports["call"]["user_properties"])
    assert properties["set"] == "{1}"
    assert properties["path"] == "/x"
    assert properties["nan"] == "nan"
    assert properties["bad"] == "<Bad whose text raised ValueError>"
    assert properties["keys"] == {"(1, 2)": 3}
    assert properties["surrogate"] == "\udc80"
    assert properties["plain"] == 1.5


def test_a_report_that_is_too_long_for_the_wire_is_shortened(worker: Makes) -> None:
    run = (
        worker(
            """
        def test_it() -> None:
            print("x" * 20_000_000)
        """
        )
        .start()
        .run("test_it.py::test_it")
    )

    assert run.outcomes["call"] == "passed"
    assert "characters left out" in dict(run.reports["call"]["sections"])["Captured stdout call"]


def test_uncaptured_output_arrives_live_and_before_the_report(worker: Makes) -> None:
    live = worker(
        """
        import os, sys

        def test_it() -> None:
            print("first")
            print("second", end="")
            os.write(1, b"\\xc3")
            os.write(1, b"\\xa9 third\\n")
            os.system("echo fourth")
            print("fifth", file=sys.stderr)
        """
    ).start(options={"capture": "no"})
    run = live.run("test_it.py::test_it")

    places = [place for place, message in enumerate(run.messages) if isinstance(message, Output)]
    called = next(place for place, m in enumerate(run.messages) if isinstance(m, Report) and m.data["when"] == "call")
    assert max(places) < called
    stdout = "".join(m.data for m in run.messages if isinstance(m, Output) and m.stream == "stdout")
    assert stdout == "first\né third\nfourth\nsecond"
    assert "fifth" in run.output


def test_much_output_is_neither_lost_nor_in_the_way(worker: Makes) -> None:
    live = worker(
        """
        import os

        def test_it() -> None:
            for number in range(20_000):
                os.write(1, b"%08d\\n" % number * 10)
        """
    ).start(options={"capture": "no"})
    run = live.run("test_it.py::test_it")

    assert run.outcomes["call"] == "passed"
    assert len(run.output) == 20_000 * 90


@pytest.mark.parametrize("capture", ["fd", "sys", "tee-sys"])
def test_each_way_to_capture_works(worker: Makes, capture: Any) -> None:
    run = worker("def test_it(): print('seen')").start(options={"capture": capture}).run("test_it.py::test_it")

    assert dict(run.reports["call"]["sections"])["Captured stdout call"] == "seen\n"
    assert run.output == ("seen\n" if capture == "tee-sys" else "")


def test_subtests_keep_their_own_reports(worker: Makes) -> None:
    live = worker(
        """
        import pytest

        def test_it(request) -> None:
            subtests = request.getfixturevalue("subtests") if int(pytest.__version__.split(".")[0]) >= 9 else None
            if subtests is None:
                pytest.skip("this pytest has none")
            for number in range(2):
                with subtests.test("part", number=number):
                    assert number == 0
        """
    ).start()
    run = live.run("test_it.py::test_it")

    kinds = [m.data for m in run.messages if isinstance(m, Report) and "_report_type" in m.data]
    if run.outcomes["call"] != "skipped":
        assert [data["_subtest.context"]["msg"] for data in kinds] == ["part", "part"][-len(kinds) :]
        assert kinds[-1]["outcome"] == "failed"
