"""What the runtime layer brings into an image."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pytest_imagebuild.plan import runtime


def test_it_ships_python_files_only_even_of_a_package_that_is_compiled_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "compiled"
    package.mkdir()
    for name in ("__init__.py", "part.py", "__init__.cpython-311-x86_64-linux-gnu.so", "__init__.abi3.so"):
        (package / name).touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(runtime, "MODULES", ("compiled", "pytest"))
    runtime.runtime_files.cache_clear()
    shipped = {path for path, _ in runtime.runtime_files()}
    runtime.runtime_files.cache_clear()
    assert "compiled" not in sys.modules
    assert {"compiled/__init__.py", "compiled/part.py"} <= shipped
    assert all(path.endswith(".py") for path in shipped)
