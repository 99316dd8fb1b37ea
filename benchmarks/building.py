"""What a cold build of six steps takes, beside `docker build` of the Dockerfile that `imagebuild export` writes.

`python benchmarks/building.py [--rounds 9] [--short] [--docker ADDRESS ...]` times whole processes, `imagebuild build`
on each engine and `docker build --no-cache`. The base image is there. The first of the steps adds a folder in which a
file has changed, so that all six are built anew; one installs a wheel of that folder. No step needs a network.

`docker build` is BuildKit where the `docker` command has buildx, else the classic builder. What is built is removed.
"""

from __future__ import annotations

import itertools
import re
import sys
import uuid
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from aims import figures
from measuring import Contestant, Took, timed
from places import Place, call, forget
from running import Outcome, Setting, main

COLD = "cold build"
FILES = 100
WHEEL = "tiny-1.0-py3-none-any.whl"
EMBEDDED_AIM, DOCKER_AIM = 0.7, 1.0
IMAGEBUILD = str(Path(sys.executable).with_name("imagebuild"))

DEFINITIONS = """\
from pytest_imagebuild import Image

base = Image.from_registry("BASE")
token, wheel = "TOKEN", "WHEEL"
image = (
    base.add_local_dir("package", f"/opt/{token}", copy=True)
    .run_commands(f"pip install --quiet --no-index --no-deps --break-system-packages /opt/{token}/{wheel}")
    .env({"SETTINGS": "/etc/settings.toml", "MODE": "test"})
    .add_local_file("settings.toml", "/etc/settings.toml", copy=True)
    .run_commands(f"cp -r /opt/{token} /srv/package && python3 -m compileall -q /srv/package")
    .run_commands("python3 -c 'import tiny' && rm /srv/package/changed.txt")
)
"""


def building(setting: Setting) -> Outcome:
    with ExitStack() as stack:
        project = Project(setting)
        contestants = []
        for place in setting.places:
            stack.callback(forget, place, setting.cache_dir, project.token)
            build = partial(project.build, place)
            contestants.append(Contestant(name=place.name, engine=place.engine, trials=[build]))
        peers = {}
        for place in setting.places:
            if place.runs_docker:
                peer = Contestant(name=f"docker build {place.series}", trials=[project.docker_build(place)])
                peers[place.name] = peer
        setting.race([*contestants, *peers.values()])
    found = []
    for contestant in contestants:
        for name, peer in peers.items():
            if name == contestant.name or contestant.engine == "embedded":
                aim = EMBEDDED_AIM if contestant.engine == "embedded" else DOCKER_AIM
                case = f"cold build of 6 steps, to {peer.name}"
                found += figures(case, [contestant], COLD, kind="ratio", aims={"": aim}, beside=peer)
    return Outcome(
        title="Six steps, built anew", contestants=[*contestants, *peers.values()], rows=[COLD], figures=found
    )


class Project:
    """A chain of six steps on a base, its local files, and its Dockerfile."""

    def __init__(self, setting: Setting) -> None:
        self.token = f"building-{uuid.uuid4().hex[:12]}"
        self._setting = setting
        self._folder = setting.folder
        self._numbers = itertools.count(1)
        definitions = DEFINITIONS.replace("BASE", setting.base).replace("TOKEN", self.token).replace("WHEEL", WHEEL)
        (self._folder / "definitions.py").write_text(definitions)
        (self._folder / "settings.toml").write_text("answer = 42\n")
        package = self._folder / "package"
        package.mkdir()
        for number in range(FILES):
            (package / f"module_{number}.py").write_text(f"NUMBER = {number}\n" * 40)
        _write_wheel(package / WHEEL)

    def build(self, place: Place) -> Mapping[str, Took]:
        self._change()
        command = [IMAGEBUILD, "build", "definitions.py:image"]
        return {COLD: timed(lambda: call(command, self._folder, self._variables(place)))[0]}

    def docker_build(self, place: Place) -> partial[Mapping[str, Took]]:
        """Write the Dockerfile, which begins with the base as it is in the engine; return what builds it."""
        variables = self._variables(place)
        call([IMAGEBUILD, "build", "definitions.py:base"], self._folder, variables)
        engine = place.open(self._setting.cache_dir)
        base = next(layer for layer in engine.layers().values() if self._setting.base in layer.labels.step)
        engine.close()
        name = f"imagebuild/{self.token}"
        call(["docker", "tag", base.reference, f"{name}:base"], self._folder, variables)
        text = call([IMAGEBUILD, "export", "definitions.py:image", "--dockerfile"], self._folder, variables)
        file = self._folder / f"Dockerfile.{place.series}"
        file.write_text(re.sub(r"(?m)^FROM \S+", f"FROM {name}:base", text))
        return partial(self._timed_docker_build, variables, file.name, name)

    def _timed_docker_build(self, variables: Mapping[str, str], file: str, name: str) -> Mapping[str, Took]:
        self._change()
        command = ["docker", "build", "--no-cache", "-q", "-f", file, "-t", f"{name}:built", "."]
        took, _ = timed(lambda: call(command, self._folder, variables))
        call(["docker", "image", "rm", f"{name}:built"], self._folder, variables)
        return {COLD: took}

    def _variables(self, place: Place) -> Mapping[str, str]:
        return place.variables(self._setting.cache_dir)

    def _change(self) -> None:
        (self._folder / "package" / "changed.txt").write_text(f"{next(self._numbers)}\n")


def _write_wheel(path: Path) -> None:
    described = "tiny-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        for number in range(FILES):
            wheel.writestr(f"tiny/module_{number}.py", f"NUMBER = {number}\n" * 40)
        wheel.writestr("tiny/__init__.py", "")
        wheel.writestr(f"{described}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(f"{described}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{described}/RECORD", "")


if __name__ == "__main__":
    sys.exit(main(__doc__, 9, building))
