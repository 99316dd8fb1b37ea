"""What the options of pytest do to a run is the same on the host and inside."""

from __future__ import annotations

from pathlib import Path

import pytest
from engines import CHOSEN, EngineUnderTest
from parity import FILES, Twins

OUTCOMES = "tests/test_outcomes.py"
QUICK = "not slow"

RUNS: dict[str, list[list[str]]] = {
    "short tracebacks": [["--tb=short", OUTCOMES, "-m", QUICK]],
    "long tracebacks with locals": [["--tb=long", "--showlocals", OUTCOMES, "-k", "fails or raises or error"]],
    "tracebacks of one line": [["--tb=line", OUTCOMES, "tests/test_asserts.py", "-m", QUICK]],
    "tracebacks of Python": [["--tb=native", OUTCOMES, "-k", "fails or raises or error"]],
    "no tracebacks": [["--tb=no", "-q", OUTCOMES, "-m", QUICK]],
    "very verbose": [["-vv", "tests/test_asserts.py", "tests/test_params.py"]],
    "no header, no summary": [["--no-header", "--no-summary", "tests/test_params.py"]],
    "stops at the first failure": [["-x", "-v", "tests"]],
    "stops at the second failure of both kinds": [
        ["--maxfail=2", "-v", "tests/test_mixed.py", "tests/test_outcomes.py"]
    ],
    "chosen by keyword": [["-v", "-k", "fixture and not teardown", "tests"]],
    "chosen by mark": [["-v", "-m", "tasty or slow", "--durations=2", "--durations-min=0.2", "tests"]],
    "chosen by node id": [["-v", "tests/test_params.py::test_ids[日本]", "tests/deep/test_scopes.py::TestFirst"]],
    "the same file twice": [["-v", "--keep-duplicates", "tests/test_params.py", "tests/test_params.py"]],
    "last failed": [["-q", OUTCOMES, "-m", QUICK], ["-v", "--lf", "--tb=no", "tests"], ["--lf", "-x", "--tb=no"]],
    "failed first": [["-q", "tests/deep", "tests/test_params.py"], ["-v", "--ff", "--tb=no", "tests"]],
    "step by step": [["--sw", "--tb=no", "tests/test_params.py"], ["--sw", "-v", "--tb=no", "tests/test_params.py"]],
    "not captured": [["-s", "-v", "tests/test_capture.py"]],
    "subtests of unittest": [["-s", "-v", "more/test_unittest_subtests.py"]],
    "captured and shown": [["--capture=tee-sys", "-v", "tests/test_capture.py", "-k", "shown or capsys"]],
    "captured without files": [["--capture=sys", "-rA", "-o", "log_level=DEBUG", "tests/test_capture.py"]],
    "warnings are errors": [
        ["-W", "error::UserWarning", "-o", "filterwarnings=error::DeprecationWarning", "tests/test_warnings.py"]
    ],
    "warnings are not shown": [["--disable-warnings", "tests/test_warnings.py"]],
    "a plugin of the project": [["-p", "project_plugin", "-v", "tests/test_plugin.py"]],
    "in color": [["--color=yes", "tests/test_asserts.py", "tests/test_places.py"]],
    "strict xfail from the ini file": [["-o", "xfail_strict=true", "-v", OUTCOMES, "-k", "xpass"]],
    "xfail switched off": [["--runxfail", OUTCOMES, "-k", "xfail or xpass"]],
    "set-up planned": [["--setup-plan", "tests/deep"]],
    "collected only": [["--collect-only", "-q"]],
    "imported with importlib": [["--import-mode=importlib", "-v", "tests/test_places.py", "tests/test_asserts.py"]],
    "imported with importlib from namespaces": [
        ["--import-mode=importlib", "-o", "consider_namespace_packages=true", "-v", "spaces"]
    ],
    "names that are not ASCII": [["-v", "tests/ünï côdé"], ["--lf", "-v"]],
    "another root directory": [["--rootdir=more", "-v", "more", "-s"]],
    "nothing is selected": [["-k", "no_such_name"]],
    "a path that is not there": [["tests/no_such_file.py"]],
}
_PLAIN = """
    import pytest
    from images import IMAGE


    @pytest.mark.image(IMAGE)
    def test_where(request):
        assert __name__ == request.node.nodeid
    """
EXTRA = {
    "tests/test_plugin.py": """
        import pytest
        from images import IMAGE


        @pytest.mark.image(IMAGE)
        def test_fixture_of_a_plugin(from_plugin):
            assert from_plugin == "from the project's plugin"
        """,
    "spaces/one/test_same.py": _PLAIN,
    "spaces/two/test_same.py": _PLAIN,
    "tests/ünï côdé/test_änderung.py": _PLAIN,
    # Only without capture: on the host, what the terminal says of subtests gets into the captured output.
    "more/test_unittest_subtests.py": """
        import unittest

        import pytest
        from images import IMAGE


        @pytest.mark.image(IMAGE)
        class TestCase(unittest.TestCase):
            def test_subtests(self):
                for number in range(3):
                    with self.subTest("part", number=number):
                        self.assertNotEqual(number, 1)
        """,
}


# Which way a test gets into its container is no business of an engine: one of them shows what options do to the flag.
# tests/e2e/test_parity_reports.py has both ways on each engine.
@pytest.mark.parametrize(
    ("engine", "way"),
    [*((engine, "marker") for engine in CHOSEN), *((engine, "flag") for engine in CHOSEN[-1:])],
    indirect=["engine"],
    scope="session",
)
@pytest.mark.parametrize("runs", RUNS.values(), ids=[name.replace(" ", "-") for name in RUNS])
def test_an_option_does_the_same_inside_as_on_the_host(
    tmp_path: Path, engine: EngineUnderTest, common: Path, runs: list[list[str]], way: str
) -> None:
    twins = Twins(tmp_path, engine, common, {**FILES, **EXTRA}, way=way)
    for arguments in runs:
        host, inside = twins.run("-p", "no:xdist", "--flavour=strawberry", *arguments)
        assert inside.ran.err == host.ran.err
        assert inside.terminal == host.terminal
        assert inside.of("outcome") == host.of("outcome")
        assert inside.ran.code == host.ran.code


def test_fixtures_are_shown_inside_as_on_the_host(tmp_path: Path, engine: EngineUnderTest, common: Path) -> None:
    host, inside = Twins(tmp_path, engine, common).run("-p", "no:xdist", "--setup-show", "tests/deep")
    # Output and reports come by ways of their own, so the dot of a test may come late.
    assert "".join(inside.terminal).replace(".", "") == "".join(host.terminal).replace(".", "")
    assert any("SETUP    M whole_module (fixtures used: order)" in line for line in inside.terminal)
