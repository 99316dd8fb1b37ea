"""What is there before the first conftest file is spared collections of garbage, where Python can do that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import gc, sys

if {bare}:
    # As PyPy is.
    del gc.freeze, gc.unfreeze, gc.get_freeze_count

import pytest

sys.exit(pytest.main(["-p", "no:cacheprovider", "-p", "imagebuild", "-q"]))
"""


@pytest.mark.parametrize("bare", [False, True])
def test_pytest_runs_on_a_python_that_can_and_on_one_that_cannot(tmp_path: Path, bare: bool) -> None:
    (tmp_path / "test_it.py").write_text(
        f"import gc\n\ndef test_it():\n    assert hasattr(gc, 'freeze') is {not bare}\n"
    )
    command = [sys.executable, "-c", PROGRAM.format(bare=bare)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 passed" in done.stdout
