"""A machine that has apt but no mmdebstrap gets one, from Debian, without being root of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from pytest_imagebuild.engines.mmdebstrap import find_mmdebstrap


def test_it_is_fetched_and_runs(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for folder in ("/usr/bin", "/bin"):
        for program in Path(folder).iterdir():
            if program.name != "mmdebstrap" and not (programs / program.name).exists():
                (programs / program.name).symlink_to(program)
    lines: list[str] = []
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    for _ in range(2):
        found = find_mmdebstrap(
            tmp_path / "cache" / "mmdebstrap", path=str(programs), environment=proxies, output=lines.append
        )
        shown = subprocess.run(
            [found.program, "--version"], env={"PATH": found.path(str(programs))}, capture_output=True, check=True
        )
        assert shown.stdout.startswith(b"mmdebstrap ")
        assert (found.hooks / "merged-usr").is_dir()
    assert lines == ["mmdebstrap is fetched from the apt sources of this machine"]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["mmdebstrap"]
