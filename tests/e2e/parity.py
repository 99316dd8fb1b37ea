"""One project, run twice: on the host with `--no-image`, and inside a container. Both must tell the same.

The project holds a case of whatever pytest can do to a test, and records every report that its host pytest gets.
"""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines import EngineUnderTest
from inner import Inner, Ran, Running
from once import once

# Of the host's own series where the test ground has it, so that messages of Python itself are the same too.
SERIES = f"3.{sys.version_info[1]}" if sys.version_info[1] in (11, 13, 14) else "3.13"
REFERENCE = f"python:{SERIES}-slim-trixie"

_ROOT_CONFTEST = """
import json
import os
import warnings

import pytest

ORDER = []


def pytest_addoption(parser):
    parser.addoption("--flavour", default="plain")
    parser.addini("spice", "an ini key of the project", default="none")
    parser.addini("spices", "a list", type="linelist")


def pytest_configure(config):
    config.addinivalue_line("markers", "tasty: registered by a conftest file")


def pytest_assertrepr_compare(op, left, right):
    if type(left).__name__ == "Point" and op == "==":
        return ["two points differ:", f"   x: {left.x} and {right.x}", f"   y: {left.y} and {right.y}"]


def pytest_runtest_logreport(report):
    path = os.environ.get("RECORD_REPORTS")
    if path and "PYTEST_XDIST_WORKER" not in os.environ:
        with open(path, "a", encoding="utf-8") as file:
            print(json.dumps({
                "nodeid": report.nodeid,
                "when": report.when,
                "outcome": report.outcome,
                "wasxfail": getattr(report, "wasxfail", None),
                "text": report.longreprtext,
                "sections": report.sections,
                "properties": [pair for pair in report.user_properties],
                "keywords": sorted(report.keywords),
                "location": report.location,
            }), file=file)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if call.when == "call" and item.get_closest_marker("tasty"):
        report.sections.append(("made by a conftest file", f"{item.name} {report.outcome}"))


@pytest.fixture(autouse=True)
def where(record_property):
    record_property("where", "container" if "IMAGEBUILD_IMAGE" in os.environ else "host")


@pytest.fixture(scope="session")
def order():
    ORDER.append("set up order")
    yield ORDER
    print("torn down at the end:", ORDER)


@pytest.fixture(scope="session")
def whole_session(order):
    order.append("session +")
    yield "session"
    order.append("session -")


@pytest.fixture(scope="package")
def whole_package(order):
    order.append("package +")
    yield "package"
    order.append("package -")


@pytest.fixture(scope="module")
def whole_module(order, request):
    order.append(f"module + {request.module.__name__}")
    yield "module"
    order.append(f"module - {request.module.__name__}")


@pytest.fixture(scope="class")
def whole_class(order, request):
    order.append(f"class + {request.cls and request.cls.__name__}")
    yield "class"
    order.append(f"class - {request.cls and request.cls.__name__}")


@pytest.fixture
def each(order, request):
    order.append(f"function + {request.node.name}")
    yield request.node.name
    order.append(f"function - {request.node.name}")


@pytest.fixture
def shadowed():
    return "root"
"""

WAYS = ("marker", "flag")
"""How a test gets into a container: by its marker, or by the flag `--image`."""

_MARKER = re.compile(r"(?m)^ *(pytestmark = |@)pytest\.mark\.image\(IMAGE\)\n")

_MARK = """
import pytest
from images import IMAGE

pytestmark = pytest.mark.image(IMAGE)
"""

FILES: Mapping[str, str] = {
    "pytest.ini": """
        [pytest]
        spice = pepper
        spices =
            one
            two
        markers =
            slow: takes a while
        junit_family = xunit1
        disable_test_id_escaping_and_forfeit_all_rights_to_community_support = true
        """,
    "images.py": f"""
        from pytest_imagebuild import Image

        IMAGE = Image.from_registry({REFERENCE!r})
        """,
    "conftest.py": _ROOT_CONFTEST,
    "project_plugin.py": """
        import pytest


        @pytest.fixture
        def from_plugin():
            return "from the project's plugin"
        """,
    "tests/conftest.py": """
        import pytest


        @pytest.fixture
        def shadowed(shadowed):
            return shadowed + " tests"
        """,
    "tests/deep/conftest.py": """
        import pytest


        @pytest.fixture
        def shadowed(shadowed):
            return shadowed + " deep"


        @pytest.fixture(params=["left", "right"], scope="module")
        def side(request, order):
            order.append(f"side + {request.param}")
            yield request.param
            order.append(f"side - {request.param}")
        """,
    "tests/__init__.py": "",
    "tests/deep/__init__.py": "",
    "tests/deep/test_scopes.py": _MARK
    + """
class TestFirst:
    def test_one(self, whole_session, whole_package, whole_module, whole_class, each, order, record_property):
        record_property("order", list(order))

    def test_two(self, whole_class, each, order, record_property):
        record_property("order", list(order))


class TestSecond:
    @pytest.fixture(autouse=True)
    def prepared(self, order):
        self.value = 1
        order.append("prepared +")
        yield
        order.append("prepared -")

    def test_three(self, whole_class, each, order, record_property):
        assert self.value == 1
        record_property("order", list(order))

    class TestInner:
        def test_four(self, whole_class, order, record_property):
            record_property("order", list(order))


def test_side(side, each, order, record_property):
    record_property("order", list(order))


def test_chain(shadowed):
    assert shadowed == "root tests deep"


def test_finalizers(request, order):
    request.addfinalizer(lambda: order.append("finalizer 1"))
    request.addfinalizer(lambda: order.append("finalizer 2"))


def test_package_relative():
    from . import conftest

    assert conftest.__name__.endswith("deep.conftest")


def test_last(order, record_property):
    record_property("order", list(order))
""",
    "tests/deep/test_scopes_again.py": _MARK
    + """
def test_new_module_same_session(whole_session, whole_package, whole_module, order, record_property):
    record_property("order", list(order))
""",
    "tests/test_outcomes.py": _MARK
    + """
import helper_module


def test_passes():
    pass


def test_fails():
    assert 1 + 1 == 3


def test_fails_in_a_helper():
    helper_module.outer(3)


def test_raises():
    try:
        {}["missing"]
    except KeyError as error:
        raise ValueError("not there") from error


def test_raises_while_handling():
    try:
        int("x")
    except ValueError:
        [].pop()


def test_fail_with_reason():
    pytest.fail("no reason to go on")


def test_fail_without_traceback():
    pytest.fail("no traceback", pytrace=False)


def test_expected_exception_is_missing():
    with pytest.raises(ZeroDivisionError):
        pass


def test_match_does_not_match():
    with pytest.raises(ValueError, match="three"):
        raise ValueError("four")


@pytest.mark.xfail
def test_xfail():
    assert False


@pytest.mark.xfail(reason="known", strict=True)
def test_xpass_strict():
    pass


@pytest.mark.xfail(reason="maybe")
def test_xpass():
    pass


@pytest.mark.xfail(raises=KeyError)
def test_xfail_raises_another():
    raise IndexError("another")


@pytest.mark.xfail(run=False, reason="never run")
def test_xfail_not_run():
    raise SystemExit


def test_imperative_xfail():
    pytest.xfail("gives up")


@pytest.mark.skip(reason="not today")
def test_skip():
    raise SystemExit


@pytest.mark.skipif("sys.version_info > (3,)", reason="a condition in a string")
def test_skipif():
    raise SystemExit


def test_imperative_skip():
    pytest.skip("from inside")


def test_importorskip():
    pytest.importorskip("no_such_module_anywhere")


def test_system_exit():
    raise SystemExit(3)


@pytest.fixture
def broken():
    raise RuntimeError("broken set-up")


@pytest.fixture
def breaks():
    yield
    raise RuntimeError("broken tear-down")


@pytest.fixture
def skips():
    pytest.skip("a fixture skips")


def test_setup_error(broken):
    pass


def test_teardown_error(breaks):
    pass


def test_failure_and_teardown_error(breaks):
    assert "call" == "failed too"


def test_skip_in_fixture(skips):
    pass


def test_fixture_is_missing(no_such_fixture):
    pass


@pytest.mark.tasty
def test_with_a_section():
    print("seen")


@pytest.mark.slow
def test_slow():
    import time

    time.sleep(0.3)


@pytest.mark.slow
def test_slower():
    import time

    time.sleep(0.6)
""",
    "helper_module.py": """
        def outer(depth):
            local = "a local value"
            return inner(depth, local)


        def inner(depth, text):
            if depth:
                return inner(depth - 1, text)
            raise LookupError(f"at the bottom with {text!r}")
        """,
    "tests/test_unittest.py": """
        import unittest

        import pytest
        from images import IMAGE


        @pytest.mark.image(IMAGE)
        class TestCase(unittest.TestCase):
            seen = []

            @classmethod
            def setUpClass(cls):
                cls.seen.append("setUpClass")

            @classmethod
            def tearDownClass(cls):
                print(cls.seen)

            def setUp(self):
                self.seen.append("setUp")
                self.addCleanup(self.seen.append, "cleaned up")

            def tearDown(self):
                self.seen.append("tearDown")

            def test_equal(self):
                self.assertEqual([1, 2], [1, 3])

            def test_passes(self):
                self.assertIn("setUpClass", self.seen)

            @unittest.skip("skipped by unittest")
            def test_skipped(self):
                raise SystemExit

            @unittest.expectedFailure
            def test_expected_failure(self):
                self.fail("expected")

            @unittest.expectedFailure
            def test_unexpected_success(self):
                pass
        """,
    "tests/test_subtests.py": _MARK
    + """
def test_subtests(subtests):
    for number in range(3):
        with subtests.test("part", number=number, text="a text"):
            print("in part", number)
            assert number != 1
""",
    "tests/test_capture.py": _MARK
    + """
import logging
import os
import subprocess
import sys

log = logging.getLogger("inner")


@pytest.fixture
def noisy():
    print("set-up out")
    log.warning("set-up log")
    yield
    print("tear-down out", file=sys.stderr)


def test_shown(noisy):
    print("call out")
    print("call err", file=sys.stderr)
    os.write(1, b"straight to 1\\n")
    subprocess.run([sys.executable, "-c", "print('a child process')"], check=True)
    log.error("call log")
    assert not noisy, "so that all is shown"


def test_capsys(capsys):
    print("taken")
    assert capsys.readouterr().out == "taken\\n"
    with capsys.disabled():
        pass
    print("left over")


def test_capfd(capfd):
    os.write(2, b"raw")
    assert capfd.readouterr().err == "raw"


def test_capfdbinary(capfdbinary):
    os.write(1, b"\\xff\\x00")
    assert capfdbinary.readouterr().out == b"\\xff\\x00"


def test_caplog(caplog):
    with caplog.at_level(logging.DEBUG, logger="inner"):
        log.debug("deep %s", "down")
    assert caplog.record_tuples == [("inner", logging.DEBUG, "deep down")]


def test_caplog_shown_on_failure(caplog):
    caplog.set_level(logging.INFO)
    log.info("informed")
    assert caplog.text == ""


def test_unicode_output():
    print("ünï¢ode 日本 ✓")
    assert "ä" == "ö"


def test_bytes_that_are_no_text():
    os.write(1, b"before \\xff\\xfe after\\n")
    assert 0


def test_control_characters():
    print("\\x1b[31mred\\x1b[0m \\x07 bell")
    assert "\\x00" == "\\x01"
""",
    "tests/test_asserts.py": _MARK
    + """
import dataclasses


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y


@dataclasses.dataclass
class Record:
    name: str
    value: int


def test_custom_comparison():
    assert Point(1, 2) == Point(1, 3)


def test_dicts():
    assert {"a": 1, "b": [1, 2, 3], "c": "x"} == {"a": 1, "b": [1, 2, 4], "d": "x"}


def test_long_lists():
    assert list(range(60)) == [*range(30), -1, *range(31, 60)]


def test_long_strings():
    assert "a\\nb\\nc\\n" * 5 == "a\\nb\\nd\\n" * 5


def test_sets():
    assert {1, 2, 3} == {2, 3, 4}


def test_dataclasses():
    assert Record("a", 1) == Record("a", 2)


def test_membership():
    assert "needle" in "a haystack without it"


def test_message():
    value = 3
    assert value > 5, f"{value} is too small"


def test_boolean_expression():
    first, second = 1, 2
    assert first == 1 and second == 3


def test_call_in_assertion():
    def twice(number):
        return number * 2

    assert twice(4) == 9


def test_approx():
    assert [0.1 + 0.2, 1.0] == pytest.approx([0.4, 1.0])


def test_walrus_and_comprehension():
    assert all(number < 3 for number in [1, 2, 3])


def test_truncated():
    assert "x" * 3000 == "y" * 3000


def test_conftest_helper_is_rewritten():
    import conftest_like

    conftest_like.check(1, 2)
""",
    "conftest_like.py": """
        import pytest

        def check(left, right):
            assert left == right
        """,
    "tests/test_params.py": _MARK
    + """
@pytest.mark.parametrize("text", ["ü", "日本", "a[b]", "x::y", "with space", "a/b", "", "100%"])
def test_ids(text):
    assert text != "日本"


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("second", [pytest.param(3, marks=pytest.mark.xfail), 4], ids=["three", "four"])
def test_product(first, second):
    assert second == 4


@pytest.fixture
def doubled(request):
    return request.param * 2


@pytest.mark.parametrize("doubled", [1, 2], indirect=True)
def test_indirect(doubled):
    assert doubled == 2


@pytest.mark.parametrize("nothing", [])
def test_empty(nothing):
    raise SystemExit


def pytest_generate_tests(metafunc):
    if "generated" in metafunc.fixturenames:
        metafunc.parametrize("generated", range(3))


def test_generated(generated):
    assert generated < 2
""",
    "tests/test_warnings.py": _MARK
    + """
import warnings


class OurWarning(UserWarning):
    pass


@pytest.fixture
def warns():
    warnings.warn("from a fixture", DeprecationWarning)


def test_warns(warns):
    warnings.warn("from a test", OurWarning)


@pytest.mark.parametrize("number", range(3))
def test_warns_repeatedly(number):
    warnings.warn("each time the same", UserWarning)


@pytest.mark.filterwarnings("error")
def test_warning_as_error():
    warnings.warn("an error here", FutureWarning)


@pytest.mark.filterwarnings("ignore")
def test_ignored():
    warnings.warn("never seen")


def test_recwarn(recwarn):
    warnings.warn("kept")
    assert len(recwarn) == 1


def test_pytest_warns():
    with pytest.warns(OurWarning):
        warnings.warn("expected", OurWarning)
""",
    "tests/test_places.py": _MARK
    + """
import os
import sys
from pathlib import Path


def test_file_and_rootdir(request):
    assert Path(__file__).parents[1] == request.config.rootpath
    assert Path.cwd() == request.config.rootpath


def test_data_file(request):
    assert (Path(__file__).parent / "data" / "greeting.txt").read_text() == "hello\\n"


def test_tmp_path(tmp_path):
    (tmp_path / "file").write_text("x")
    assert tmp_path.name == "test_tmp_path0"
    assert [path.name for path in tmp_path.iterdir()] == ["file", "no other"]


def test_tmp_path_factory(tmp_path_factory, tmp_path):
    folder = tmp_path_factory.mktemp("mine")
    assert folder.parent == tmp_path.parent


def test_tmpdir_of_a_child(tmp_path):
    import subprocess

    subprocess.run([sys.executable, "-c", "open('made', 'w')"], cwd=tmp_path, check=True)
    assert (tmp_path / "made").exists()


def test_monkeypatch(monkeypatch, tmp_path):
    monkeypatch.setenv("SET_BY_A_TEST", "yes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "sep", "|")
    assert os.environ["SET_BY_A_TEST"] == "yes" and Path.cwd() == tmp_path and os.sep == "|"


def test_monkeypatch_is_undone():
    assert "SET_BY_A_TEST" not in os.environ and os.sep == "/"


def test_options(request, pytestconfig):
    assert pytestconfig.getoption("flavour") == "strawberry"
    assert pytestconfig.getini("spice") == "pepper"
    assert pytestconfig.getini("spices") == ["one", "two"]
    assert pytestconfig.inipath == pytestconfig.rootpath / "pytest.ini"


def test_current_test_variable():
    assert os.environ["PYTEST_CURRENT_TEST"] == "tests/test_places.py::test_current_test_variable (call)"


def test_cache_fixture(cache):
    cache.set("inner/value", 1)
    assert cache.get("inner/value", None) == 1


def test_properties(record_property):
    record_property("number", 3)
    record_property("text", "ü")


def test_request(request):
    assert request.node.nodeid == "tests/test_places.py::test_request"
    assert request.session.name == ""
    assert [node.name for node in request.node.listchain()][-2:] == ["test_places.py", "test_request"]


async def test_async_without_a_plugin():
    assert False


def test_failures_so_far(request, record_property):
    record_property("failed", request.session.testsfailed)
""",
    "tests/data/greeting.txt": "hello\n",
    "tests/test_skipped_module.py": """
        import pytest
        from images import IMAGE

        pytest.importorskip("no_such_module_anywhere")

        @pytest.mark.image(IMAGE)
        def test_never():
            raise SystemExit
        """,
    "tests/test_mixed.py": '''
        """A module of both kinds, with a doctest.

        >>> 1 + 1
        3
        """

        import pytest
        from images import IMAGE


        @pytest.fixture(scope="module")
        def shared():
            return []


        def test_host(shared):
            shared.append("host")
            assert shared == ["host"]


        @pytest.mark.image(IMAGE)
        def test_inside():
            assert [] == ["inside"]


        def test_host_again(shared):
            assert shared == ["host"], "the container's tests do not end the host's fixtures"


        @pytest.mark.image(IMAGE)
        class TestInside:
            def test_inside(self):
                pass


        def test_host_fails():
            assert "host" == "container"
        ''',
}


@dataclass(frozen=True, slots=True)
class Told:
    """What one run told: on the terminal, in the JUnit file, and to the hooks of the host's conftest file."""

    ran: Ran
    root: Path
    junit: str
    reports: list[dict[str, Any]]

    @property
    def terminal(self) -> list[str]:
        return normal(self.ran.out, self.root).splitlines()

    def section(self, title: str) -> list[str]:
        """Return the lines below the rule that holds `title`, up to the next rule of that kind; [] without one."""
        lines = self.terminal
        begin = next((n for n, line in enumerate(lines) if re.fullmatch(f"== {title} ==", line)), len(lines))
        end = next((n for n in range(begin + 1, len(lines)) if re.fullmatch("== .* ==", lines[n])), len(lines))
        return lines[begin + 1 : end]

    def of(self, name: str) -> dict[tuple[str, str, int], Any]:
        """Return one value of each report, by node id, phase and a number for phases with several reports."""
        values: dict[tuple[str, str, int], Any] = {}
        for report in self.reports:
            number = sum(key[:2] == (report["nodeid"], report["when"]) for key in values)
            values[report["nodeid"], report["when"], number] = report[name]
        return values


class Twins:
    """The project twice, side by side: one for the host, one for the container of an engine.

    What the host tells is the same beside every engine, so it is run there beside the first one only, and kept on the
    `shelf`, a folder that all xdist workers share.
    The `way` into the container is the marker of tests, or the flag `--image`, for which the tests have none.
    """

    def __init__(
        self, home: Path, engine: EngineUnderTest, shelf: Path, files: Mapping[str, str] = FILES, *, way: str = "marker"
    ) -> None:
        self._chosen: tuple[str, ...] = ()
        if way == "flag":
            files = {name: _MARKER.sub("", text) for name, text in files.items()}
            self._chosen = ("--image=images.py:IMAGE",)
        self._host = Inner(home / "outer", engine).write(files)
        self._inside = Inner(home / "inner", engine).write(files)
        self._shelf = shelf
        self._story: tuple[object, ...] = (tuple(files.items()),)
        self._not_run_here: list[tuple[tuple[str, ...], dict[str, str]]] = []

    def run(self, *arguments: str, **environment: str) -> tuple[Told, Told]:
        """Run both at once; return what the host's told, and what the container's told."""
        self._story += ((arguments, tuple(environment.items())),)
        self._not_run_here.append((arguments, environment))
        inside = _begin(self._inside, (*self._chosen, *arguments), environment)
        host = once(self._shelf, self._story, self._run_on_the_host)
        return host, _told(self._inside, inside.wait())

    def _run_on_the_host(self) -> Told:
        # What earlier runs of the story left behind, such as the last failures, is not here where others ran them.
        for arguments, environment in self._not_run_here:
            told = _told(self._host, _begin(self._host, ("--no-image", *arguments), environment).wait())
        self._not_run_here.clear()
        return told


def _begin(project: Inner, arguments: Sequence[str], environment: Mapping[str, str]) -> Running:
    records, junit = _records(project), _junit(project)
    records.unlink(missing_ok=True)
    junit.unlink(missing_ok=True)
    return project.begin(*arguments, f"--junitxml={junit}", RECORD_REPORTS=str(records), **environment)


def _told(project: Inner, ran: Ran) -> Told:
    records, junit = _records(project), _junit(project)
    return Told(
        ran=ran,
        root=project.folder,
        junit=_normal_junit(junit.read_text("utf-8"), project.folder) if junit.exists() else "",
        reports=[
            json.loads(normal(line, project.folder))
            for line in (records.read_text("utf-8").splitlines() if records.exists() else ())
        ],
    )


def _records(project: Inner) -> Path:
    return project.home / "reports.jsonl"


def _junit(project: Inner) -> Path:
    return project.home / "junit.xml"


_CHANGES = (
    (r"/tmp/pytest-of-\w+/pytest-\d+(/popen-gw\d)?", "TMP"),
    (r"\b0x[0-9a-f]+\b", "0x"),
    (r"/[\w./-]+/site-packages/", "SITE/"),
    (r"\(cache from \d:\d\d:\d\d ago", "(cache from N ago"),
    (r"\b\d+\.\d+s( setup| call| teardown)\b", r"Ns\1"),
    (r" in \d+\.\d+s( \(\d+:\d\d:\d\d\))?", " in Ns"),
    (r"={5,}", "=="),  # a rule is as long as the time in it leaves room for
    (r"(?m)^imagebuild\b.*\n", ""),
    (r"\[gw\d\] linux -- Python [\d.]+ [\w./-]*/python[\d.]*(\\n)?", ""),  # which xdist worker it was is chance
    (
        r"available fixtures: [\w, ]*",
        "available fixtures: ...",
    ),  # plugins of the host have some that the container has not
    (r"(?m)^- generated xml file: .* -$\n", ""),
    (r"(?m)^ +[~^]{2,} *$\n", ""),  # the marks of newer Pythons below a line of a traceback
    (r"(?m)^([=_!-])\1+ (.*?) ?\1+$", r"\1\1 \2 \1\1"),
    (r"\n{2,}", "\n"),
)


def normal(text: str, root: Path) -> str:
    """Return `text` without what two runs of the same never share: times, addresses, the folder of the project."""
    text = text.replace(str(root.parent), "HOME").replace("--no-image", "")
    for pattern, replacement in _CHANGES:
        text = re.sub(pattern, replacement, text)
    return text


def _normal_junit(text: str, root: Path) -> str:
    tree = ET.fromstring(normal(text, root))
    for element in tree.iter():
        for name in ("time", "timestamp", "hostname"):
            element.attrib.pop(name, None)
        for child in list(element):
            if child.tag == "property" and child.get("name") == "where":
                element.remove(child)
    return ET.tostring(tree, encoding="unicode").replace("><", ">\n<")
