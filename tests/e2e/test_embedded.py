"""What only the embedded engine has: containers are processes of this machine, and layers its files."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from engines import only
from inner import SLEEPS, Inner, failure_of, outcomes
from observing import wait_until

if TYPE_CHECKING:
    from embedded_engine import EmbeddedUnderTest

pytestmark = only("embedded")


def test_a_container_that_is_killed_from_outside_fails_its_test_and_the_next_one_gets_another(
    tmp_path: Path, engine: EmbeddedUnderTest, nonce: str
) -> None:
    running = Inner(tmp_path, engine).write(SLEEPS).begin("-s", "-v", "-rA")
    wait_until("the test to run", lambda: "now it sleeps" in running.out(), timeout=120)
    (processes,) = engine.processes().values()
    os.kill(min(processes), signal.SIGKILL)
    ran = running.wait(60)
    assert outcomes(ran) == {"test_sleeps": "FAILED", "test_later": "PASSED"}
    assert "The worker in the container was killed by SIGKILL." in failure_of(ran, "test_sleeps")
    assert "Traceback" not in ran.text
    assert ran.code == pytest.ExitCode.TESTS_FAILED
    assert engine.remains(nonce) == []
