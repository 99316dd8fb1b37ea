"""A clock that is wrong, or jumps: nothing hangs, ends too early, is lost, or stays behind."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from bases import OwnBase
from engines import EngineUnderTest, Events
from inner import Inner, failure_of, outcomes

CLOCK = """
    import os
    import time

    real = time.time
    if "IMAGEBUILD_IMAGE" not in os.environ:
        time.time = lambda: real() + {years} * 365 * 86400
    """

TESTS = """
    import time
    import pytest
    from pytest_imagebuild import Image

    @pytest.mark.image(Image.from_registry("{base}").run_commands("sleep 0.5; : {nonce}"), timeout=20)
    @pytest.mark.parametrize("number", range(2))
    def test_inside(number):
        time.sleep(0.1)

    @pytest.mark.image(Image.from_registry("{base}").env({{"NONCE": "{nonce}"}}), timeout=1)
    def test_hangs():
        time.sleep(30)
    """


@pytest.mark.parametrize("years", [10, -10], ids=["ahead", "behind"])
def test_a_wrong_clock_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, engine: EngineUnderTest, base: OwnBase, nonce: str, years: int
) -> None:
    project = Inner(tmp_path_factory.mktemp("clock"), engine)
    project.write(
        {
            "pytest.ini": "[pytest]\n",
            "conftest.py": CLOCK.format(years=years),
            "test_it.py": TESTS.format(base=base.reference, nonce=nonce),
        }
    )

    with engine.events() as events:
        first = project.run()
        assert "1 failed, 2 passed" in first.out, first.text
        assert "did not end within 1 s" in first.out, first.text
        made = _steps(events, nonce)
        assert "INTERNALERROR" not in first.text

        (project.folder / "conftest.py").unlink()
        second = project.run("--deselect", "test_it.py::test_hangs")

        assert "2 passed" in second.out, second.text
        assert "built 0" in second.out
        assert _steps(events, nonce) == made
    assert engine.containers() == []
    assert engine.remains(nonce) == []


def _steps(events: Events, nonce: str) -> list[str]:
    return [step for step in events.commits() if nonce in step]


JUMPING = {
    "pytest.ini": "[pytest]\n",
    "conftest.py": """
        # Of the host, and of each container.
        import itertools
        import time

        import _pytest.timing

        real, jumps = time.time, itertools.cycle((0, 400_000_000, -400_000_000))
        time.time = _pytest.timing.time = lambda: real() + next(jumps)
        """,
    "test_it.py": """
        import time

        import pytest
        from pytest_imagebuild import Image

        image = Image.from_registry("python:3.13-slim-trixie").run_commands(": NONCE; sleep 1").env({"NONCE": "1"})


        @pytest.mark.image(image, timeout=60)
        @pytest.mark.parametrize("number", range(3))
        def test_in_time(number):
            assert abs(time.time() - time.time()) > 1_000_000, "the clock jumps here too"


        @pytest.mark.image(image, timeout=2)
        def test_too_late():
            time.sleep(600)


        @pytest.mark.image(image, timeout=60)
        def test_afterwards():
            pass
        """,
}


def test_jumps_of_the_clock_change_no_timeout_no_layer_and_no_duration(
    tmp_path: Path, engine: EngineUnderTest, nonce: str
) -> None:
    files = {name: text.replace("NONCE", nonce) for name, text in JUMPING.items()}
    project = Inner(tmp_path, engine).write(files)
    for name, when in (("future.txt", 32_000_000_000), ("past.txt", 0)):
        (project.folder / name).touch()
        os.utime(project.folder / name, (when, when))

    ran = project.run("-v", "-rA", "--junit-xml=junit.xml")

    wanted = {f"test_in_time[{number}]": "PASSED" for number in range(3)}
    assert outcomes(ran) == {**wanted, "test_too_late": "FAILED", "test_afterwards": "PASSED"}, ran.text
    assert "The test did not end within 2 s" in failure_of(ran, "test_too_late")
    times = [float(case.attrib["time"]) for case in ET.parse(project.folder / "junit.xml").iter("testcase")]
    assert len(times) == 5
    assert all(0 <= seconds < 300 for seconds in times), times
    assert len(engine.layers(nonce)) == 2
    again = project.run("-k", "in_time")
    assert "3 passed" in again.out
    assert "built 0" in again.out, again.text
    assert engine.remains(nonce) == []
    engine.remove_layers(nonce)
