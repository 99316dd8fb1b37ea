"""What the marker costs where tests are only collected, beside pytest without this plugin.

`python benchmarks/collecting.py [--rounds 11] [--short]` collects 10,000 marked tests of 20 files, a third of them of
one parametrized function, with the plugin and without it (`-p no:imagebuild`). Both import the definition of the image.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from aims import figures
from measuring import Contestant, further, one_row
from places import ALONE, call, pytest_program
from running import Outcome, Setting, main

AIMS = {"": 1.05}
FILES, EACH = 20, 500
SHORT_EACH = 10
FEW, MANY = "1 test", "{:,} tests"
FURTHER = "each further test, collected"

HEAD = """\
import pytest
from pytest_imagebuild import Image

image = Image.debian_slim()

@pytest.mark.image(image)
def test_first():
    pass
"""
PARAMETRIZED = """
@pytest.mark.image(image)
@pytest.mark.parametrize("number", range({count}))
def test_parametrized(number):
    pass
"""
SINGLE = """
@pytest.mark.image(image)
def test_{number}():
    pass
"""


def collecting(setting: Setting) -> Outcome:
    each = SHORT_EACH if setting.short else EACH
    many = MANY.format(FILES * each)
    _write_project(setting.folder, each)
    contestants = []
    for name, flags in (("without", ["-p", "no:imagebuild"]), ("with the plugin", ["-p", "imagebuild"])):
        command = [*pytest_program("--collect-only"), *flags]
        collect = partial(call, folder=setting.folder, environment=ALONE)
        trials = [
            partial(one_row, FEW, partial(collect, [*command, "one"])),
            partial(one_row, many, partial(collect, [*command, "many"])),
        ]
        contestants.append(Contestant(name=name, trials=trials))
    setting.race(contestants)
    for contestant in contestants:
        further(contestant, FURTHER, (FEW, 1), (many, FILES * each))
    plain, ours = contestants
    found = figures(f"collecting {many}", [ours], many, kind="ratio", aims=AIMS, beside=plain)
    found += figures(
        f"collecting {many}, processor time", [ours], many, kind="ratio", aims=AIMS, beside=plain, part="processor"
    )
    return Outcome(
        title="Collecting marked tests",
        contestants=contestants,
        rows=[FEW, many, FURTHER],
        on_top=[FURTHER],
        figures=found,
    )


def _write_project(folder: Path, each: int) -> None:
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = image\n")
    (folder / "one").mkdir()
    (folder / "one" / "test_one.py").write_text(HEAD)
    (folder / "many").mkdir()
    parametrized = each // 3
    for file in range(FILES):
        single = "".join(SINGLE.format(number=number) for number in range(each - parametrized - 1))
        (folder / "many" / f"test_many_{file}.py").write_text(HEAD + PARAMETRIZED.format(count=parametrized) + single)


if __name__ == "__main__":
    sys.exit(main(__doc__, 11, collecting))
