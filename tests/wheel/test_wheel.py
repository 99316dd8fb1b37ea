"""What is installed: tox sets IMAGEBUILD_TEST_WHEEL where that is the built wheel."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pytest_imagebuild

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(str(pytest_imagebuild.__file__)).parent

pytestmark = pytest.mark.skipif(
    "IMAGEBUILD_TEST_WHEEL" not in os.environ, reason="this Python imports the checkout, not a built wheel"
)


def test_the_tests_import_the_wheel_and_not_the_checkout() -> None:
    assert ROOT not in PACKAGE.parents or "site-packages" in PACKAGE.parts


def test_the_wheel_has_every_file_of_the_package() -> None:
    source = ROOT / "pytest_imagebuild"
    wanted = {path.relative_to(source) for path in source.rglob("*") if path.suffix in {".py", ".toml", ".typed"}}
    assert {path for path in wanted if not (PACKAGE / path).is_file()} == set()


def test_the_wheel_brings_the_plugin_and_the_command() -> None:
    entries = {entry.value for entry in importlib.metadata.distribution("pytest-imagebuild").entry_points}
    assert entries == {"pytest_imagebuild.plugin", "pytest_imagebuild.cli:main"}


def test_importing_the_package_needs_the_standard_library_alone() -> None:
    code = "import pytest_imagebuild; pytest_imagebuild.Image.debian_slim('3.13').env({'A': 'b'}); print('fine')"
    # -S: without site-packages.
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.append({str(PACKAGE.parent)!r}); {_only_ours()}; {code}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("fine\n", "")


def _only_ours() -> str:
    """Return code that hides what else lies beside the package."""
    names = ("pytest", "_pytest", "docker", "testcontainers", "filelock", "rich", "tomli_w", "requests")
    return "; ".join(f"sys.modules[{name!r}] = None" for name in names)
