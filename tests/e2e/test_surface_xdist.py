"""xdist: the workers of one run share the images, and tell the same."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from engines import EngineUnderTest
from inner import TIMEOUT, Inner, outcomes
from observing import wait_until
from parity import Told, Twins

pytest.importorskip("xdist")

DISTRIBUTED = ("-p", "xdist", "-n", "2", "--flavour=strawberry", "-rA")


def _phases(told: Told) -> dict[tuple[str, str], list[tuple[str, str]]]:
    phases: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for report in told.reports:
        phases.setdefault((report["nodeid"], report["when"]), []).append((report["outcome"], report["text"]))
    return phases


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, engine: EngineUnderTest, common: Path) -> tuple[Told, Told]:
    """Return what the host told and what the container told, each distributed to two workers."""
    # Which tests share a worker, and so what their fixtures have seen, is chance; reports must not depend on it.
    return Twins(tmp_path_factory.mktemp("xdist"), engine, common).run(*DISTRIBUTED)


def test_distributed_tests_have_the_same_reports_inside_as_on_the_host(both: tuple[Told, Told]) -> None:
    host, inside = both
    assert _phases(inside) == _phases(host)
    assert inside.ran.code == host.ran.code == pytest.ExitCode.TESTS_FAILED


def test_the_summary_counts_a_layer_once_however_many_workers_use_it(both: tuple[Told, Told]) -> None:
    assert re.findall(r"layers: .*", both[1].ran.out) == ["layers: reused 2, built 0"]


def test_distributed_sessions_leave_no_container(both: tuple[Told, Told], engine: EngineUnderTest) -> None:
    assert both[1].reports
    assert engine.containers() == []


GROUPS = {
    "pytest.ini": "[pytest]\n",
    "test_groups.py": """
        import os

        import pytest
        from pytest_imagebuild import Image

        IMAGE = Image.from_registry("python:3.13-slim-trixie")


        @pytest.fixture(scope="module")
        def once(tmp_path_factory):
            return os.getpid()


        @pytest.mark.xdist_group("together")
        @pytest.mark.image(IMAGE)
        @pytest.mark.parametrize("number", range(6))
        def test_in_a_group(number, once, tmp_path):
            assert once == os.getpid() and "IMAGEBUILD_IMAGE" in os.environ
            if number == 3:
                raise RuntimeError("number three")


        @pytest.mark.image(IMAGE)
        def test_in_no_group():
            pass
        """,
}


@pytest.mark.parametrize("mode", ["load", "loadscope", "loadfile", "loadgroup", "worksteal"])
def test_the_ways_to_distribute_work(tmp_path: Path, engine: EngineUnderTest, mode: str) -> None:
    ran = Inner(tmp_path, engine).write(GROUPS).run("-n2", f"--dist={mode}", "-q", "--tb=no")
    assert "1 failed, 6 passed" in ran.out


def test_more_workers_than_are_allowed_are_not_started(tmp_path: Path, engine: EngineUnderTest) -> None:
    ran = Inner(tmp_path, engine).write(GROUPS).run("-n4", "--maxprocesses=2", "--tb=no")
    assert "1 failed, 6 passed" in ran.out
    assert "2/2 workers" in ran.out


def test_a_run_that_waits_for_changes_runs_them(tmp_path: Path, engine: EngineUnderTest) -> None:
    project = Inner(tmp_path, engine).write(GROUPS)
    running = project.begin("-f", "test_groups.py", "-q")
    wait_until("the first run", lambda: "waiting for changes" in running.out(), timeout=TIMEOUT)
    assert "1 failed, 6 passed" in running.out()
    project.write({"test_groups.py": GROUPS["test_groups.py"].replace("number == 3", "number == 99")})
    wait_until("the second run", lambda: running.out().count("waiting for changes") == 2, timeout=TIMEOUT)
    assert "7 passed" in running.out()
    running.process.send_signal(signal.SIGINT)
    running.wait()
    wait_until("the containers to end", lambda: engine.containers() == [], timeout=TIMEOUT)


def test_an_engine_that_is_down_is_one_error_for_each_test(tmp_path: Path, engine: EngineUnderTest) -> None:
    project = Inner(tmp_path, engine).write(GROUPS)
    ran = project.run("-n2", "-q", **engine.outage.environment)
    assert "7 errors" in ran.out
    assert ran.out.count(f"\n{engine.outage.sentence}") == 7
    assert "Traceback" not in ran.text


def test_a_wrong_marker_is_an_error_of_the_tests(tmp_path: Path, engine: EngineUnderTest) -> None:
    project = Inner(tmp_path, engine).write(GROUPS)
    project.write({"test_wrong.py": "import pytest\n\n@pytest.mark.image\ndef test_it():\n    pass\n"})
    ran = project.run("-n2", "-v")
    assert "test_wrong.py:3: @pytest.mark.image of test_it: it takes an Image, found nothing." in ran.out
    assert set(outcomes(ran).values()) <= {"ERROR"}
    assert "Traceback" not in ran.text
