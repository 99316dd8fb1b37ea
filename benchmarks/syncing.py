"""What it takes to have a project's files in the container: 2,000 files, of which one was edited since the last run.

`python benchmarks/syncing.py [--rounds 15] [--short] [--docker ADDRESS ...]` runs one test in a git checkout of 2,000
files, and in one that has that test alone. Before each run, a file is edited.

    N files, no files   whole runs; the row below is what the files cost
    listed and packed   of that, what the process of pytest does: git is asked, the files are read and put into a tar
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Mapping
from functools import partial

from aims import figures
from measuring import Contestant, Took, Trial, further, timed
from places import ALONE, Place, call, pytest_program
from running import Outcome, Setting, main

COUNT, SHORT_COUNT = 2_000, 50
FOLDER_SIZE = 20
AIMS = {"embedded": 0.020, "docker": 0.030}
NONE, PACKED = "no files", "listed and packed"

TEST = """\
import pytest
from pytest_imagebuild import Image

@pytest.mark.image(Image.from_registry("{base}"))
def test_files():
    pass
"""
SOURCE = """\
\"\"\"A module of about the usual size.\"\"\"

{functions}
"""
FUNCTION = """
def function_{number}(argument):
    \"\"\"Return what is asked for.\"\"\"
    return [argument, {number}]

"""
PROBE = """\
import json, sys, time
from pathlib import Path
from pytest_imagebuild.session.tree import payload, read_tree
begun = time.perf_counter(), time.process_time()
payload([read_tree(Path.cwd())], ())
print(json.dumps([time.perf_counter() - begun[0], time.process_time() - begun[1]]))
"""


def syncing(setting: Setting) -> Outcome:
    count = SHORT_COUNT if setting.short else COUNT
    empty, full = (Project(setting, name, number) for name, number in (("empty", 0), ("full", count)))
    many, more = f"{count:,} files", f"{count:,} files more"
    contestants = []
    for place in setting.places:
        trials: list[Trial] = [partial(full.run, place, many), partial(empty.run, place, NONE)]
        contestants.append(Contestant(name=place.name, engine=place.engine, trials=trials))
    packing = Contestant(name="alone", trials=[full.packed])
    setting.race([*contestants, packing])
    for contestant in contestants:
        further(contestant, more, (NONE, 1), (many, 2))
    return Outcome(
        title=f"A project of {count:,} files",
        contestants=[*contestants, packing],
        rows=[many, NONE, more, PACKED],
        figures=figures(f"sync of {count:,} files, one edited", contestants, more, aims=AIMS),
    )


class Project:
    """A git checkout with a test, and so many other files."""

    def __init__(self, setting: Setting, name: str, count: int) -> None:
        self._setting = setting
        self._folder = setting.folder / name
        self._folder.mkdir()
        self._edits = itertools.count(1)
        self._edited = self._folder / "edited.py"
        (self._folder / "test_files.py").write_text(TEST.format(base=setting.base))
        (self._folder / "pytest.ini").write_text("[pytest]\n")
        text = SOURCE.format(functions="".join(FUNCTION.format(number=number) for number in range(40)))
        for number in range(count):
            path = self._folder / f"package_{number // FOLDER_SIZE}" / f"module_{number}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        self._edit()
        self._git("init", "--quiet")
        self._git("add", ".")

    def run(self, place: Place, row: str) -> Mapping[str, Took]:
        self._edit()
        command = pytest_program("-p", "imagebuild", "test_files.py")
        return {
            row: timed(lambda: call(command, self._folder, {**ALONE, **place.variables(self._setting.cache_dir)}))[0]
        }

    def packed(self) -> Mapping[str, Took]:
        self._edit()
        wall, processor = json.loads(call([sys.executable, "-c", PROBE], self._folder, {}))
        return {PACKED: Took(wall=wall, processor=processor)}

    def _edit(self) -> None:
        self._edited.write_text(f"EDIT = {next(self._edits)}\n")

    def _git(self, *arguments: str) -> None:
        subprocess.run(["git", "-C", str(self._folder), *arguments], check=True, capture_output=True)


if __name__ == "__main__":
    sys.exit(main(__doc__, 15, syncing))
