"""What it takes to see that nothing is to be built: 50 images of 10 layers, all of them built.

`python benchmarks/checking.py [--rounds 9] [--short] [--docker ADDRESS ...]` builds images that share their base only,
and runs pytest with `--image-build-only` on tests that use all of them, and on as many that use the first only.

    the check           in the run itself, from the definitions to built layers: plans, keys, look-up, claims
    the files' check    the look at the files of all these layers, before the embedded engine relies on them
    N images, 1 image   whole runs; the row below is what the other images cost

The images are removed at the end.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from aims import figures
from measuring import Contestant, Took, further, one_row, say
from places import ALONE, Place, call, forget, pytest_program
from running import Outcome, Setting, main

IMAGES, LAYERS = 50, 10
SHORT_IMAGES, SHORT_LAYERS = 2, 4
AIMS = {"embedded": 0.050, "docker": 0.100}
CHECK, FILES = "the check", "the files' check"
BOTH = "the check, with the files"

DEFINITIONS = """\
from pytest_imagebuild import Image

def chain(number):
    image = Image.from_registry("{base}").run_commands(f"echo {{number}} > /{token}")
    for layer in range({layers} - 2):
        write = f"echo {{layer}} > /layer{{layer}}"
        image = image.run_commands(write) if layer % 3 == 0 else image.env({{f"LAYER{{layer}}": "1"}})
    return image

images = [chain(number) for number in range({images})]
"""
TESTS = """\
import pytest
from definitions import images

"""
TEST = """\
@pytest.mark.image(images[{image}])
def test_{number}():
    pass

"""
PROBE = """\
import json, os, sys, time, pytest
from pytest_imagebuild.dispatch.workspace import Workspace

def clock():
    return time.perf_counter(), sum(os.times()[:4])

def looked(engine, layers):
    if engine.name == "embedded":
        opened = engine._open()
        for check in [opened.soundness.begin(opened.store.record(layer.reference)) for layer in layers]:
            check.wait()

def build(self, images, *, for_tests):
    begun = clock()
    outcome = original(self, images, for_tests=for_tests)
    built = clock()
    looked(self.engine, outcome.values())
    spent.append([begun, built, clock()])
    return outcome

original, Workspace.build, spent = Workspace.build, build, []
code = pytest.main(sys.argv[1:])
print("spent", json.dumps(spent), "spent")
sys.exit(code)
"""


def checking(setting: Setting) -> Outcome:
    images, layers = (SHORT_IMAGES, SHORT_LAYERS) if setting.short else (IMAGES, LAYERS)
    token = f"checking-{uuid.uuid4().hex[:12]}"
    _write_project(setting, images, layers, token)
    all_images, more = f"{images} images", f"{images - 1} images more"
    contestants = []
    try:
        for place in setting.places:
            say(f"building {images} images on {place.name}")
            run = partial(_run, setting, place)
            run("test_all.py")
            run("test_one.py")
            trials = [
                partial(_probed, setting, place),
                partial(one_row, all_images, partial(run, "test_all.py")),
                partial(one_row, "1 image", partial(run, "test_one.py")),
            ]
            contestants.append(Contestant(name=place.name, engine=place.engine, trials=trials))
        setting.race(contestants)
    finally:
        for place in setting.places:
            forget(place, setting.cache_dir, token)
    for contestant in contestants:
        further(contestant, more, ("1 image", 1), (all_images, 2))
    case = f"warm check of {images} images of {layers} layers"
    found = figures(f"{case}, in the run", contestants, BOTH, aims=AIMS)
    found += figures(f"{case}, whole runs", contestants, more, aims=AIMS)
    return Outcome(
        title=f"{images} images of {layers} layers, all of them built",
        contestants=contestants,
        rows=[CHECK, FILES, BOTH, all_images, "1 image", more],
        figures=found,
    )


def _run(setting: Setting, place: Place, file: str) -> str:
    command = pytest_program("-p", "imagebuild", "--image-build-only", file)
    return call(command, setting.folder, {**ALONE, **place.variables(setting.cache_dir)})


def _probed(setting: Setting, place: Place) -> Mapping[str, Took]:
    command = [sys.executable, "-c", PROBE, "-q", "-p", "no:cacheprovider"]
    command += ["-p", "imagebuild", "--image-build-only", "test_all.py"]
    printed = call(command, setting.folder, {**ALONE, **place.variables(setting.cache_dir)})
    ((begun, built, looked),) = json.loads(printed.split("spent")[1])
    return {CHECK: _took(begun, built), FILES: _took(built, looked), BOTH: _took(begun, looked)}


def _took(begun: list[float], ended: list[float]) -> Took:
    return Took(wall=ended[0] - begun[0], processor=ended[1] - begun[1])


def _write_project(setting: Setting, images: int, layers: int, token: str) -> None:
    definitions = DEFINITIONS.format(base=setting.base, token=token, layers=layers, images=images)
    files = {
        "definitions.py": definitions,
        "test_all.py": TESTS + "".join(TEST.format(image=number, number=number) for number in range(images)),
        "test_one.py": TESTS + "".join(TEST.format(image=0, number=number) for number in range(images)),
        "pytest.ini": "[pytest]\npythonpath = .\n",
    }
    for name, text in files.items():
        Path(setting.folder, name).write_text(text)


if __name__ == "__main__":
    sys.exit(main(__doc__, 9, checking))
