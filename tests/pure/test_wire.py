# A message of another kind than the test expects fails it where it is used.
# mypy: disable-error-code="union-attr, index, arg-type, attr-defined"
"""Bytes of a worker become typed messages, or a WireError; never anything else."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from _pytest.reports import TestReport as PytestReport

from pytest_imagebuild.errors import WireError
from pytest_imagebuild.session.messages import (
    Asked,
    Collected,
    CollectError,
    Done,
    Exited,
    Failure,
    Finished,
    Interrupted,
    JUnitProperty,
    Measured,
    Missing,
    Nodes,
    Output,
    Ready,
    Report,
    ShellEnded,
    Summary,
    Terminal,
    WarningSeen,
)
from pytest_imagebuild.session.nodes import Node
from pytest_imagebuild.session.reports import mend_report, warning_message
from pytest_imagebuild.session.wire import Parser
from pytest_imagebuild.worker.protocol import MAX_LINE, encode

WARNING = {
    "when": "runtest", "nodeid": "t.py::t", "category": "UserWarning", "module": "builtins", "message": "m",
    "filename": "t.py", "lineno": 3, "line": None, "location": ["t.py", 3, "t"],
}  # fmt: skip

OPTION = {"flags": ["--shade", "-s"], "dest": "shade", "action": "store", "nargs": "?", "const": 3}
NODE = {
    "index": 1, "parent": 0, "role": "item", "kind": "Function", "nodeid": "t.py::t", "name": "t", "path": "/p/t.py",
    "markers": [["slow", [1], {"why": "x"}]], "keywords": ["t"], "extra_keywords": ["k"], "doc": None,
    "location": ["t.py", 3, "t"], "report": None, "order": 0, "deselected": False,
}  # fmt: skip

MESSAGES = [
    ({"type": "ready", "protocol": 1, "python": "3.13.5", "pytest": "9.2.0", "options": [OPTION], "ini_keys": ["a"]},
     Ready(protocol=1, python="3.13.5", pytest="9.2.0", options=(OPTION,), ini_keys=("a",))),
    ({"type": "nodes", "nodes": [NODE]},
     Nodes(nodes=(Node(**{**NODE, "markers": (("slow", (1,), {"why": "x"}),), "keywords": ("t",),
                          "extra_keywords": ("k",), "location": ("t.py", 3, "t")}),))),
    ({"type": "coverage", "context": "c", "arcs": True, "files": {"a.py": [-1, 3, 3, 4]}, "tracers": {"a.py": "x"}},
     Measured(context="c", arcs=True, files={"a.py": [(-1, 3), (3, 4)]}, tracers={"a.py": "x"})),
    ({"type": "coverage", "context": "", "arcs": False, "files": {"a.py": [3, 4]}, "tracers": {}},
     Measured(context="", arcs=False, files={"a.py": [3, 4]}, tracers={})),
    ({"type": "junit", "item": None, "name": "ARCH", "value": "PPC"},
     JUnitProperty(item=None, name="ARCH", value="PPC")),
    ({"type": "ready", "protocol": 1, "python": "3.13.5", "pytest": "9.2.0"},
     Ready(protocol=1, python="3.13.5", pytest="9.2.0")),
    ({"type": "collected", "items": 2, "errors": [{"nodeid": "a", "outcome": "skipped", "longrepr": "no"}]},
     Collected(items=2, errors=(CollectError(nodeid="a", outcome="skipped", longrepr="no"),))),
    ({"type": "collected", "items": 0, "errors": [], "header": ["seed: 3"]},
     Collected(items=0, errors=(), header=("seed: 3",))),
    ({"type": "asked", "name": "database"}, Asked(name="database")),
    ({"type": "terminal", "open": True, "shown": False}, Terminal(open=True, shown=False)),
    ({"type": "shell", "code": 3}, ShellEnded(code=3)),
    ({"type": "summary", "text": "t"}, Summary(text="t")),
    ({"type": "missing", "item": "a", "outcome": "failed", "reason": "r"},
     Missing(item="a", outcome="failed", reason="r")),
    ({"type": "report", "item": "a", "data": {"x": 1}}, Report(item="a", data={"x": 1})),
    ({"type": "warning", **WARNING}, WarningSeen(**{**WARNING, "location": ("t.py", 3, "t")})),
    ({"type": "done", "item": "a", "stop": None}, Done(item="a", stop=None)),
    ({"type": "interrupted", "kind": "exit", "reason": "r", "returncode": 3},
     Interrupted(kind="exit", reason="r", returncode=3)),
    ({"type": "output", "stream": "stderr", "data": "é\n"}, Output(stream="stderr", data="é\n")),
    ({"type": "output", "stream": "terminal", "data": "a\x1b[A"}, Output(stream="terminal", data="a\x1b[A")),
    ({"type": "error", "text": "t"}, Failure(text="t")),
    ({"type": "finished"}, Finished()),
    ({"type": "exited", "code": None, "signal": 11, "oom": True}, Exited(code=None, signal=11, oom=True)),
]  # fmt: skip


@pytest.mark.parametrize(("values", "message"), MESSAGES)
def test_each_message_becomes_its_type(values: Any, message: Any) -> None:
    assert list(Parser().feed(encode(values))) == [message]


def test_bytes_may_be_cut_anywhere() -> None:
    data = b"".join(encode(values) for values, _ in MESSAGES)
    parser = Parser()

    messages = [message for place in range(len(data)) for message in parser.feed(data[place : place + 1])]

    assert messages == [message for _, message in MESSAGES]


def refuse(line: bytes) -> str:
    with pytest.raises(WireError) as error:
        list(Parser().feed(line + b"\n"))
    return str(error.value)


@pytest.mark.parametrize(
    "line",
    [
        b"", b"x", b"[]", b"1", b"null", b'"type"', b"{}", b'{"type": 1}', b'{"type": ["ready"]}', b'{"type": "bye"}',
        b'{"type": "done"}', b'{"type": "done", "item": 1, "stop": null}', b'{"type": "done", "item": "a", "stop": 1}',
        b'{"type": "output", "stream": "both", "data": ""}', b'{"type": "output", "stream": "stdout", "data": "\xc3"}',
        b'{"type": "collected", "items": true, "errors": []}', b'{"type": "collected", "items": 1, "errors": [1]}',
        b'{"type": "exited", "code": 1.0, "signal": null, "oom": false}',
        b'{"type": "exited", "code": NaN, "signal": null, "oom": false}',
        b'{"type": "exited", "code": ' + b"1" * 5000 + b', "signal": null, "oom": false}',
    ],
)  # fmt: skip
def test_what_is_not_a_message_is_refused(line: Any) -> None:
    assert refuse(line).startswith("The worker sent")


@pytest.mark.parametrize("location", [[], ["a"], ["a", "b", "c"], [1, 2, 3], ["a", 1, "b", 2]])
def test_a_warning_from_nowhere_is_refused(location: Any) -> None:
    assert "location" in refuse(json.dumps({"type": "warning", **WARNING, "location": location}).encode())


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_nesting_is_bounded(opening: Any) -> None:
    assert "nested deeper" in refuse(b'{"type": "report", "item": "a", "data": ' + opening * 1_000_000)


def test_the_number_of_brackets_is_bounded() -> None:
    assert "brackets" in refuse(b'{"type": "report", "item": "a", "data": {"x": [' + b"[]," * 200_000 + b"1]}}")


def test_brackets_in_strings_do_not_count() -> None:
    values = {"type": "output", "stream": "stdout", "data": '\\"[[{{' * 100_000}

    assert [message.data for message in Parser().feed(encode(values))] == [values["data"]]


def test_a_line_is_bounded() -> None:
    parser = Parser()
    for _ in range(MAX_LINE // 65536):
        assert not list(parser.feed(b"x" * 65536))
    with pytest.raises(WireError, match="more than 16777216 bytes"):
        list(parser.feed(b"x" * 65536))


def test_messages_before_the_bad_one_are_delivered() -> None:
    feed = Parser().feed(encode({"type": "finished"}) + b"bad\n")

    assert next(feed) == Finished()
    with pytest.raises(WireError):
        next(feed)


def data(**changes: object) -> dict[str, object]:
    """Return a passing report as it comes out of JSON."""
    report = {
        "nodeid": "t.py::t", "location": ["t.py", 1, "t"], "keywords": {"t": 1}, "outcome": "passed",
        "longrepr": None, "when": "call", "sections": [["Captured stdout call", "x"]], "duration": 0.5, "start": 1.5,
        "stop": 2, "user_properties": [["name", [1]]], "$report_type": "TestReport",
    }  # fmt: skip
    return {**report, **changes}


ENTRY = {
    "type": "ReprEntry",
    "data": {
        "lines": ["    assert x", "E   assert 1"],
        "reprfuncargs": {"args": [["x", "1"]]},
        "reprlocals": {"lines": ["x = 1"]},
        "reprfileloc": {"path": "t.py", "lineno": 2, "message": "AssertionError"},
        "style": "long",
    },
}
TRACEBACK = {"reprentries": [ENTRY], "extraline": None, "style": "long"}
CRASH = {"path": "t.py", "lineno": 2, "message": "assert 1"}


def exception(**changes: object) -> dict[str, object]:
    return {
        "reprcrash": CRASH,
        "reprtraceback": TRACEBACK,
        "sections": [],
        "chain": [[TRACEBACK, CRASH, None]],
        **changes,
    }


def mend(**changes: object) -> dict[str, object]:
    return mend_report(data(**changes), items=["t.py::t"])


def test_lists_become_tuples_again() -> None:
    report = mend()

    assert report["location"] == ("t.py", 1, "t")
    assert report["sections"] == [("Captured stdout call", "x")]
    assert report["user_properties"] == [("name", [1])]


def test_a_skip_has_a_tuple_whatever_came() -> None:
    assert mend(outcome="skipped", longrepr=["t.py", 3, "Skipped: no"])["longrepr"] == ("t.py", 3, "Skipped: no")
    assert mend(outcome="skipped", longrepr="no")["longrepr"] == ("t.py", 2, "no")
    assert mend(outcome="skipped", longrepr=None)["longrepr"] == ("t.py", 2, "Skipped")


def test_a_failure_has_a_text_whatever_came() -> None:
    assert mend(outcome="failed", longrepr=None)["longrepr"] == "The report of the container says no more."


def test_a_failure_reads_as_before() -> None:
    report = PytestReport._from_json(mend(outcome="failed", longrepr=exception()))

    assert report.longreprtext == "x = 1\n\n    assert x\nE   assert 1\n\nx = 1\n\nt.py:2: AssertionError"


def test_fields_that_this_pytest_does_not_know_are_dropped_from_a_failure() -> None:
    newer = exception(reprtraceback={**TRACEBACK, "colour": "red"})

    assert "colour" not in PytestReport._from_json(mend(outcome="failed", longrepr=newer)).longreprtext


def test_what_plugins_add_is_kept_but_never_in_the_place_of_a_method() -> None:
    report = mend(rerun=1, extra=[1], toterminal="x", node="x", self=1, cls=2, _id="x", failed=True)

    assert report["rerun"] == 1
    assert report["extra"] == [1]
    assert not {"toterminal", "node", "self", "_id", "failed"} & set(report)


def test_a_clock_that_went_back_gives_no_time() -> None:
    assert mend(duration=-3.5)["duration"] == 0.0


def test_a_subtest_keeps_its_kind() -> None:
    report = mend(_report_type="SubTestReport", **{"_subtest.context": {"msg": None, "kwargs": {}, "more": 1}})

    assert report["_report_type"] == "SubTestReport"
    assert "$report_type" not in report
    assert report["_subtest.context"] == {"msg": None, "kwargs": {}}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nodeid", "t.py::other"), ("nodeid", None), ("nodeid", 1), ("when", "collect"), ("when", None),
        ("outcome", "good"), ("outcome", ["passed"]), ("location", None), ("location", ["t.py", 1]),
        ("location", ["t.py", "1", "t"]), ("keywords", []), ("sections", {}), ("sections", ["x"]),
        ("sections", [["a", 1]]), ("sections", [["a", "b", "c"]]), ("user_properties", [["a"]]),
        ("user_properties", None), ("duration", "1"), ("duration", True), ("duration", math.inf), ("duration", 10**400),
        ("start", None), ("wasxfail", 1), ("longrepr", 1), ("longrepr", []), ("longrepr", {}),
        ("longrepr", ["a", "b", "c"]),
        ("longrepr", exception(sections=[["a", "b"]])), ("longrepr", exception(chain=[[TRACEBACK, CRASH]])),
        ("longrepr", exception(reprcrash={**CRASH, "lineno": "2"})), ("longrepr", exception(reprtraceback=None)),
        ("longrepr", exception(reprtraceback={**TRACEBACK, "reprentries": [{**ENTRY, "type": "os.system"}]})),
        ("longrepr", exception(reprtraceback={**TRACEBACK, "reprentries": [1]})), ("$report_type", "CollectReport"),
        ("$report_type", None),
    ],
)  # fmt: skip
def test_what_is_not_a_report_is_refused(name: Any, value: Any) -> None:
    with pytest.raises(WireError, match=r"The worker sent a report whose"):
        mend(outcome="failed", **{"longrepr": "x", name: value}) if name != "outcome" else mend(outcome=value)


def seen(category: str, module: str) -> WarningSeen:
    return WarningSeen(**{**WARNING, "category": category, "module": module, "location": None})


def test_known_warnings_have_their_classes() -> None:
    assert warning_message(seen("DeprecationWarning", "builtins")).category is DeprecationWarning
    assert warning_message(seen("PytestWarning", "pytest")).category is pytest.PytestWarning


def test_unknown_warnings_get_a_class_that_looks_the_same_and_import_nothing() -> None:
    message = warning_message(seen("system", "os"))

    assert (message.category.__name__, message.category.__module__) == ("system", "os")
    assert issubclass(message.category, Warning)
    assert str(message.message) == "m"
    assert warning_message(seen("system", "os")).category is message.category


def test_names_that_are_no_warnings_get_no_class_of_theirs() -> None:
    assert warning_message(seen("Exception", "builtins")).category is not Exception
    assert issubclass(warning_message(seen("main", "pytest")).category, Warning)


def test_the_encoder_takes_anything() -> None:
    loop: list[object] = []
    loop.append(loop)
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    odd = {"set": {1}, "nan": math.nan, "loop": loop, "deep": deep, "huge": 10**6000, "bytes": b"x", (1,): "key"}

    line = encode({"type": "report", "item": "a", "data": odd})

    (report,) = Parser().feed(line)
    assert report.data["set"] == "{1}"
    assert report.data["nan"] == "nan"
    assert report.data["bytes"] == "b'x'"
    assert report.data["(1,)"] == "key"


def test_the_encoder_keeps_to_the_length_of_a_line() -> None:
    long = "é" * 10_000_000
    many = ["x" * 100] * 500_000

    for values in (long, {"a": long, "b": long}, many, [many] * 3):
        line = encode({"type": "report", "item": "a", "data": {"values": values}})
        assert len(line) <= MAX_LINE
        assert list(Parser().feed(line))


@pytest.mark.parametrize(
    "change",
    [
        {"index": -1},
        {"parent": 1},
        {"parent": -1},
        {"role": "root"},
        {"location": None},
        {"location": ["t.py", "3", "t"]},
        {"role": "file"},
        {"markers": [["slow", [], []]]},
        {"markers": ["slow"]},
        {"keywords": [1]},
        {"report": "no"},
        {"order": "first"},
        {"name": None},
        {"nodeid": "t.py::()::t"},
    ],
)
def test_a_node_that_is_none_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        list(Parser().feed(encode({"type": "nodes", "nodes": [{**NODE, **change}]})))


@pytest.mark.parametrize("flag", ["shade", "--", "--two words", "-\n", ""])
def test_what_is_no_flag_does_not_become_one(flag: str) -> None:
    values = {"type": "ready", "protocol": 1, "python": "3", "pytest": "9", "options": [{**OPTION, "flags": [flag]}]}
    (ready,) = Parser().feed(encode(values))
    assert ready.options[0]["flags"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"a.py": [1, 2, 3]}},
        {"files": {"a.py": [1, "2"]}},
        {"files": {"a.py": [[1, 2]]}},
        {"files": {"a.py": [1, 2**31]}},
        {"files": ["a.py"]},
        {"tracers": {"a.py": 3}},
        {"arcs": 1},
    ],
)
def test_coverage_that_is_none_is_refused(change: dict[str, Any]) -> None:
    values = {"type": "coverage", "context": "", "arcs": True, "files": {}, "tracers": {}}
    with pytest.raises(WireError):
        list(Parser().feed(encode({**values, **change})))


@pytest.mark.parametrize("nargs", [0, -1, 10**9, "a", "A..."])
def test_a_number_of_values_that_no_option_has_is_none(nargs: int | str) -> None:
    values = {"type": "ready", "protocol": 1, "python": "3", "pytest": "9", "options": [{**OPTION, "nargs": nargs}]}
    (ready,) = Parser().feed(encode(values))
    assert ready.options[0]["nargs"] is None
