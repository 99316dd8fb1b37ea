"""Reports and warnings of a worker, made fit for the controller's pytest.

JSON turns tuples into lists, and a container is not trusted: what comes is rebuilt from the parts that the
controller's pytest asks for (`_report_kwargs_from_json` in `_pytest/reports.py`, the same in 7.4 and 9.2),
so that neither its terminal nor its JUnit file trips over it.
"""

from __future__ import annotations

import builtins
import math
import sys
import warnings
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, NoReturn, TypeVar

import pytest

from pytest_imagebuild.errors import WireError
from pytest_imagebuild.session.messages import WarningSeen

__all__ = ["OUTCOMES", "mend_collect_report", "mend_report", "warning_message"]

_T = TypeVar("_T")

OUTCOMES = frozenset({"passed", "failed", "skipped", "rerun"})
"""What a report can say; `rerun` is pytest-rerunfailures'."""

_WHENS = frozenset({"setup", "call", "teardown"})
_KEPT_PRIVATE = frozenset({"_report_type", "_subtest.context"})
_NOT_EXTRA = frozenset({"self", "node", *(name for name in dir(pytest.TestReport) if not name.startswith("_"))})
"""Names that a plugin's attribute may not have: it would stand in for a method of the report."""


def mend_report(data: Mapping[str, Any], *, items: Collection[str]) -> dict[str, Any]:
    """Return data that `pytest_report_from_serializable` takes, from what came over the wire.

    `items` are the node ids that may be reported now. Raises WireError for what is not a report of one of
    them. Attributes that plugins added are kept.
    """
    report = {
        name: value
        for name, value in data.items()
        if name not in _NOT_EXTRA and (name in _KEPT_PRIVATE or not name.startswith("_"))
    }
    report["nodeid"] = _one_of(data, "nodeid", items)
    report["when"] = _one_of(data, "when", _WHENS)
    report["outcome"] = _one_of(data, "outcome", OUTCOMES)
    report["location"] = _triple(data.get("location"), "location")
    keywords = _typed(data.get("keywords"), dict, "keywords")
    report["keywords"] = {sys.intern(name): value for name, value in keywords.items()}
    report["sections"] = [_pair(section, "sections") for section in _typed(data.get("sections"), list, "sections")]
    report["user_properties"] = [_named(item) for item in _typed(data.get("user_properties"), list, "user_properties")]
    for name in ("duration", "start", "stop"):
        report[name] = _seconds(data.get(name, 0.0), name)
    if "wasxfail" in data:
        report["wasxfail"] = _typed(data["wasxfail"], str, "wasxfail")
    report["longrepr"] = _longrepr(data.get("longrepr"), report)
    _check_kind(report)
    return report


def mend_collect_report(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return data of a collect report that failed or was skipped, as `mend_report` does. Raises WireError."""
    report: dict[str, Any] = {
        "nodeid": _typed(data.get("nodeid"), str, "nodeid"),
        "outcome": _one_of(data, "outcome", {"failed", "skipped"}),
        "location": ("", None, ""),
        "sections": [_pair(section, "sections") for section in _typed(data.get("sections"), list, "sections")],
        "result": None,
        "$report_type": "CollectReport",
    }
    report["longrepr"] = _longrepr(data.get("longrepr"), report)
    del report["location"]
    if data.get("_pdbshown") is True:
        report["_pdbshown"] = True
    return report


def warning_message(seen: WarningSeen) -> warnings.WarningMessage:
    """Return the warning as the controller's pytest records it. Its class only looks like the worker's."""
    category = _category(seen.module[:_NAME], seen.category[:_NAME])
    return warnings.WarningMessage(
        message=category(seen.message),
        category=category,
        filename=seen.filename,
        lineno=seen.lineno,
        line=seen.line,
    )


_NAME = 200


@lru_cache(maxsize=256)
def _category(module: str, name: str) -> type[Warning]:
    """Return a known class of that name, else make one: nothing is imported for a worker."""
    return _KNOWN.get((module, name)) or type(name, (Warning,), {"__module__": module})


def _known_categories() -> dict[tuple[str, str], type[Warning]]:
    return {
        (module.__name__, name): value
        for module in (builtins, pytest)
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Warning)
    }


_KNOWN = _known_categories()


def _check_kind(report: dict[str, Any]) -> None:
    """Leave one note of what class the report has: a plugin's own, which its hook knows, or pytest's."""
    if "_report_type" in report:
        report.pop("$report_type", None)
        context = report.get("_subtest.context")
        if context is not None:
            context = _typed(context, dict, "_subtest.context")
            message = context.get("msg")
            report["_subtest.context"] = {
                "msg": message if message is None else _typed(message, str, "_subtest.context"),
                "kwargs": _typed(context.get("kwargs"), dict, "_subtest.context"),
            }
    elif report.get("$report_type") != "TestReport":
        _refuse("$report_type", report.get("$report_type"))


def _longrepr(value: object, report: Mapping[str, Any]) -> object:
    """Rebuild the failure; a skip, and only a skip, is a path, a line and a reason."""
    mended: object
    if value is None or isinstance(value, str):
        mended = value
    elif isinstance(value, list):
        path, line, reason = _triple(value, "longrepr")
        mended = (path, line or 0, reason)
    else:
        mended = _exception(_typed(value, dict, "longrepr"))
    if report["outcome"] == "skipped" and "wasxfail" not in report and not isinstance(mended, tuple):
        path, line, _ = report["location"]
        return (path, (line or 0) + 1, mended if isinstance(mended, str) else "Skipped")
    if report["outcome"] == "failed" and mended is None:
        return "The report of the container says no more."
    return mended


def _exception(value: Mapping[str, Any]) -> dict[str, Any]:
    chain = value.get("chain")
    return {
        "reprcrash": _crash(value.get("reprcrash")),
        "reprtraceback": _traceback(value.get("reprtraceback")),
        "sections": [_section(section) for section in _typed(value.get("sections"), list, "longrepr")],
        "chain": None if chain is None else [_link(link) for link in _typed(chain, list, "longrepr")],
    }


def _link(value: object) -> tuple[object, ...]:
    parts = _typed(value, list, "longrepr")
    if len(parts) != 3:
        _refuse("longrepr", parts)
    return (_traceback(parts[0]), _crash(parts[1]), _text_or_none(parts[2]))


def _traceback(value: object) -> dict[str, Any]:
    parts = _typed(value, dict, "longrepr")
    return {
        "reprentries": [_entry(entry) for entry in _typed(parts.get("reprentries"), list, "longrepr")],
        "extraline": _text_or_none(parts.get("extraline")),
        "style": _typed(parts.get("style"), str, "longrepr"),
    }


def _entry(value: object) -> dict[str, Any]:
    entry = _typed(value, dict, "longrepr")
    data = _typed(entry.get("data"), dict, "longrepr")
    lines = _lines(data.get("lines"))
    if entry.get("type") == "ReprEntryNative":
        return {"type": "ReprEntryNative", "data": {"lines": lines}}
    if entry.get("type") != "ReprEntry":
        _refuse("longrepr", entry.get("type"))
    arguments, values = data.get("reprfuncargs"), data.get("reprlocals")
    return {
        "type": "ReprEntry",
        "data": {
            "lines": lines,
            "reprfuncargs": arguments and {"args": [_pair(pair, "longrepr") for pair in _inside(arguments, "args")]},
            "reprlocals": values and {"lines": _lines(_inside(values, "lines"))},
            "reprfileloc": _crash(data.get("reprfileloc")),
            "style": _typed(data.get("style"), str, "longrepr"),
        },
    }


def _inside(value: object, name: str) -> list[Any]:
    return _typed(_typed(value, dict, "longrepr").get(name), list, "longrepr")


def _crash(value: object) -> dict[str, Any] | None:
    if value is None:
        return None
    crash = _typed(value, dict, "longrepr")
    return {
        "path": _typed(crash.get("path"), str, "longrepr"),
        "lineno": _typed(crash.get("lineno"), int, "longrepr"),
        "message": _typed(crash.get("message"), str, "longrepr"),
    }


def _section(value: object) -> tuple[str, str, str]:
    parts = [_typed(part, str, "longrepr") for part in _typed(value, list, "longrepr")]
    if len(parts) != 3:
        _refuse("longrepr", parts)
    return (parts[0], parts[1], parts[2])


def _lines(value: object) -> list[str]:
    return [_typed(line, str, "longrepr") for line in _typed(value, list, "longrepr")]


def _text_or_none(value: object) -> str | None:
    return None if value is None else _typed(value, str, "longrepr")


def _triple(value: object, name: str) -> tuple[str, int | None, str]:
    """Return a path, a line or None, and a text."""
    parts = _typed(value, list, name)
    if len(parts) != 3:
        _refuse(name, parts)
    line = parts[1] if parts[1] is None else _typed(parts[1], int, name)
    return _shared_triple(_typed(parts[0], str, name), line, _typed(parts[2], str, name))


@lru_cache(maxsize=16)
def _shared_triple(path: str, line: int | None, text: str) -> tuple[str, int | None, str]:
    return (sys.intern(path), line, sys.intern(text))


def _pair(value: object, name: str) -> tuple[str, str]:
    parts = _typed(value, list, name)
    if len(parts) != 2:
        _refuse(name, parts)
    return (_typed(parts[0], str, name), _typed(parts[1], str, name))


def _named(value: object) -> tuple[str, object]:
    parts = _typed(value, list, "user_properties")
    if len(parts) != 2:
        _refuse("user_properties", parts)
    return (str(parts[0]), parts[1])


def _seconds(value: object, name: str) -> float:
    """Return a time. A test that turned its clock back took no time."""
    if (type(value) is float or (type(value) is int and abs(value) < 2**53)) and math.isfinite(value):
        return max(0.0, float(value))
    return _refuse(name, value)


def _one_of(data: Mapping[str, Any], name: str, values: Collection[str]) -> str:
    value = _typed(data.get(name), str, name)
    # pytest keeps every report, and each message would have texts of its own: here and below, equal ones are shared.
    return sys.intern(value) if value in values else _refuse(name, value)


def _typed(value: object, expected: type[_T], name: str) -> _T:
    if type(value) is not expected:
        _refuse(name, value)
    return value


def _refuse(name: str, value: object) -> NoReturn:
    msg = f"The worker sent a report whose {name!r} cannot be {str(value)[:200]!r}"
    raise WireError(msg)
