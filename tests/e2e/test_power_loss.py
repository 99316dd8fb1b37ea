"""Files of the cache folder that a machine which lost power left empty, or cut in half: the next run is green."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from engines import EngineUnderTest, open_engine
from inner import Inner

PROJECT = {
    "pytest.ini": "[pytest]\n",
    "test_it.py": """
        import os

        import pytest
        from pytest_imagebuild import Image

        image = Image.from_registry("python:3.13-slim-trixie").env({"POWER": "on"}).run_commands("echo 1 > /one")


        @pytest.mark.image(image)
        def test_inside():
            assert (os.environ["POWER"], open("/one").read()) == ("on", "1\\n")
        """,
}
FOLDERS_OF_FILES = {"trees", "merged", "floor", "tools", "bases"}
"""What holds files of images; their damage is the business of tests/engine/test_embedded_layers.py."""


def own_files(folder: Path) -> list[Path]:
    """Return the files by which we remember something."""
    found = []
    for at, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in FOLDERS_OF_FILES]
        found += [Path(at, name) for name in files]
    return [path for path in found if stat.S_ISREG(path.lstat().st_mode) and path.stat().st_size]


@pytest.mark.parametrize("share", [0, 2], ids=["empty", "half"])
def test_files_of_ours_that_are_empty_or_cut_in_half_are_healed_by_the_next_run(
    tmp_path: Path, engine: EngineUnderTest, share: int
) -> None:
    engine = open_engine(engine.name, tmp_path / "cache")
    project = Inner(tmp_path, engine).write(PROJECT)
    assert project.run().code == 0
    cut = own_files(engine.cache_dir)
    assert cut
    for path in cut:
        os.truncate(path, path.stat().st_size // share if share else 0)

    ran = project.run()

    assert ran.code == 0, ran.text
    assert "1 passed" in ran.out
    assert "Traceback" not in ran.text
    assert engine.containers() == []
    again = project.run()
    assert "built 0" in again.out, again.text
