from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from image_without_python import image

pytestmark = pytest.mark.image(image)


def test_tests_run_on_the_python_that_was_added() -> None:
    assert sys.version_info[:2] == (3, 13)
    assert sys.prefix == "/usr/local"


def test_the_image_itself_is_as_it_was() -> None:
    assert (os.environ["STAGE"], Path("/etc/stage").read_text()) == ("set-up", "prepared\n")
    assert subprocess.run(["/bin/sh", "-c", "! test -e /usr/bin/python3"], check=False, timeout=60).returncode == 0
