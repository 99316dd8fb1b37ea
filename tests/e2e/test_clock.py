"""A clock that is set back and forward, again and again: nothing hangs, ends too early, is lost, or stays behind."""

from __future__ import annotations

import pytest
from bases import OwnBase
from engines import EngineUnderTest, Events
from inner import Inner

CLOCK = """
    import os
    import time

    YEARS = 10 * 365 * 86400
    real = time.time
    offsets = {offsets}
    turn = 0

    def jumping():
        global turn
        turn += 1
        return real() + offsets[turn % len(offsets)] * YEARS

    if "IMAGEBUILD_IMAGE" not in os.environ:
        time.time = jumping
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


@pytest.mark.parametrize("offsets", [[1], [-1], [0, 1, -1]], ids=["ahead", "behind", "jumping"])
def test_a_wrong_clock_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, engine: EngineUnderTest, base: OwnBase, nonce: str, offsets: list[int]
) -> None:
    project = Inner(tmp_path_factory.mktemp("clock"), engine)
    project.write(
        {
            "pytest.ini": "[pytest]\n",
            "conftest.py": CLOCK.format(offsets=offsets),
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
