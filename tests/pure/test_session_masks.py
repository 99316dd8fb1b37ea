"""What a worker tells, without the secrets of its session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_imagebuild.masking import Masking
from pytest_imagebuild.session.masks import MessageMask
from pytest_imagebuild.session.messages import (
    Collected,
    CollectError,
    Done,
    Exited,
    Failure,
    Finished,
    Interrupted,
    Message,
    Missing,
    Output,
    Ready,
    Report,
    WarningSeen,
)
from pytest_imagebuild.session.setup import Setup

VALUE = "t0ken-4711"


def masked(*messages: Message) -> list[Message]:
    return list(MessageMask(Masking([VALUE]))(iter(messages)))


def warning(text: str) -> WarningSeen:
    return WarningSeen(
        when="runtest",
        nodeid="t.py::test",
        category="UserWarning",
        module="builtins",
        message=text,
        filename="t.py",
        lineno=1,
        line=f"    warn({text!r})",
        location=None,
    )


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Missing(item="t", outcome="failed", reason=VALUE), Missing(item="t", outcome="failed", reason="***")),
        (Failure(text=f"E {VALUE}"), Failure(text="E ***")),
        (Done(item="t", stop=VALUE), Done(item="t", stop="***")),
        (Done(item="t", stop=None), Done(item="t", stop=None)),
        (
            Interrupted(kind="exit", reason=f"no {VALUE}", returncode=3),
            Interrupted(kind="exit", reason="no ***", returncode=3),
        ),
        (
            Collected(items=1, errors=(CollectError(nodeid="t.py", outcome="failed", longrepr=VALUE),)),
            Collected(items=1, errors=(CollectError(nodeid="t.py", outcome="failed", longrepr="***"),)),
        ),
        (warning(VALUE), warning("***")),
        (Finished(), Finished()),
        (Exited(code=1, signal=None, oom=False), Exited(code=1, signal=None, oom=False)),
        (Ready(protocol=1, python="3", pytest="9"), Ready(protocol=1, python="3", pytest="9")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_message_is_masked(message: Message, expected: Message) -> None:
    assert masked(message) == [expected]


def test_a_report_is_masked_but_for_what_it_is_found_and_rebuilt_by() -> None:
    data = {
        "nodeid": f"t.py::test[{VALUE}]",
        "location": ["t.py", 1, f"test[{VALUE}]"],
        "keywords": {f"test[{VALUE}]": 1},
        "outcome": "failed",
        "when": "call",
        "longrepr": {
            "reprcrash": {"path": "t.py", "lineno": 1, "message": f"assert '{VALUE}' == ''"},
            "reprtraceback": {
                "reprentries": [
                    {
                        "type": "ReprEntry",
                        "data": {"lines": [f"E  {VALUE}"], "style": "long", "reprlocals": {"lines": [VALUE]}},
                    }
                ],
                "style": "long",
            },
            "sections": [["Captured", VALUE, "-"]],
        },
        "sections": [["Captured stdout call", f"x {VALUE}\n"]],
        "user_properties": [["token", VALUE]],
        "of_a_plugin": {VALUE: VALUE},
        "duration": 0.1,
        "$report_type": "TestReport",
    }
    [report] = masked(Report(item="x", data=data))
    assert isinstance(report, Report)
    kept = {name: report.data[name] for name in ("nodeid", "location", "keywords", "outcome", "when", "$report_type")}
    assert kept == {name: data[name] for name in kept}
    assert VALUE not in str({name: value for name, value in report.data.items() if name not in kept})
    assert report.data["sections"] == [["Captured stdout call", "x ***\n"]]
    assert report.data["of_a_plugin"] == {"***": "***"}


@pytest.mark.parametrize("value", ["long", "ReprEntry", "type", "lines", "message", "TestReport", "failed", "longrepr"])
def test_a_secret_that_is_a_word_of_the_protocol_breaks_no_report(value: str) -> None:
    longrepr = {"reprentries": [{"type": "ReprEntry", "data": {"lines": ["E x"], "style": "long"}}], "message": "x"}
    report = Report(item="t", data={"longrepr": longrepr, "outcome": "failed", "$report_type": "TestReport"})
    assert list(MessageMask(Masking([value]))(iter([report]))) == [report]


def outputs(messages: Iterator[Message]) -> list[tuple[str, str] | str]:
    return [(m.stream, m.data) if isinstance(m, Output) else type(m).__name__ for m in messages]


def test_a_value_that_output_brings_in_parts_is_masked_for_each_stream() -> None:
    mask = MessageMask(Masking([VALUE]))
    parts = [("stdout", "a t0ke"), ("stderr", "b t0ken-"), ("stdout", "n-4711\n"), ("stderr", "4711 t")]
    messages: list[Message] = [Output(stream=stream, data=data) for stream, data in parts]
    assert outputs(mask(iter([*messages, Done(item="t", stop=None)]))) == [
        ("stdout", "a "),
        ("stderr", "b "),
        ("stdout", "***\n"),
        ("stderr", "*** "),
        ("stderr", "t"),
        "Done",
    ]


def test_the_beginning_of_a_value_at_the_end_of_everything_is_masked() -> None:
    mask = MessageMask(Masking([VALUE]))
    messages: list[Message] = [Output(stream="stdout", data="x t0ken"), Done(item="t", stop=None), Finished()]
    assert outputs(mask(iter(messages))) == [("stdout", "x "), "Done", ("stdout", "***"), "Finished"]


def test_a_setup_shows_no_value() -> None:
    setup = Setup(cwd="/", rootdir="/", environment={"TOKEN": VALUE}, payload=VALUE.encode())
    assert VALUE not in repr(setup)
    assert VALUE.encode() in setup.line()
