"""What the plugin costs a project that has it installed and uses no image.

`python benchmarks/startup.py [--rounds 40] [--short]`: pytest runs one trivial test with the plugin and without it
(`-p no:imagebuild`). Where the run imports what only builds need, this fails.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from aims import figures
from measuring import Contestant, one_row
from places import call, pytest_program
from running import Outcome, Setting, main

HEAVY = ("docker", "testcontainers", "rich", "requests", "filelock", "tomli_w")
PROBE = f"""
import sys, pytest
code = pytest.main(["-q"])
print("imported:", *[name for name in {HEAVY!r} if name in sys.modules])
sys.exit(code)
"""
ROW = "1 test without an image"
AIMS = {"": 0.010}


def startup(setting: Setting) -> Outcome:
    (setting.folder / "pytest.ini").write_text("[pytest]\n")
    (setting.folder / "test_trivial.py").write_text("def test_trivial():\n    pass\n")
    if imported := heavy_imports(setting.folder):
        raise SystemExit(f"a run without images imports what only builds need: {imported}")
    without, plugin = (
        Contestant(
            name=name,
            trials=[partial(one_row, ROW, partial(call, pytest_program(*flags), setting.folder, {}))],
        )
        for name, flags in (("without", ("-p", "no:imagebuild")), ("with the plugin", ()))
    )
    setting.race([without, plugin])
    return Outcome(
        title="A run that uses no image",
        contestants=[without, plugin],
        rows=[ROW],
        # Other processes disturb processor time least.
        figures=figures(
            "a run without images, processor time",
            [plugin],
            ROW,
            kind="more",
            aims=AIMS,
            beside=without,
            part="processor",
        ),
    )


def heavy_imports(project: Path) -> str:
    """Return which of `HEAVY` a run imports; it also fills the bytecode caches for the runs that are timed."""
    return call([sys.executable, "-c", PROBE], project, {}).splitlines()[-1].removeprefix("imported:").strip()


if __name__ == "__main__":
    sys.exit(main(__doc__, 40, startup))
