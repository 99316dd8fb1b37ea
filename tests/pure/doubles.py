"""Small real doubles for the pure ring: installers that answer from a table, and a progress that remembers."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_imagebuild.build.builder import ImageBuilder
from pytest_imagebuild.build.installs import CONSTRAINTS
from pytest_imagebuild.build.lockstore import LockMode, LockStore
from pytest_imagebuild.build.pins import Pins
from pytest_imagebuild.build.progress import NullProgress, Progress
from pytest_imagebuild.build.settings import BuildMode, BuildSettings, StepNetwork
from pytest_imagebuild.engines.layers import LayerLabels
from pytest_imagebuild.engines.memory import CommandResult, MemoryEngine
from pytest_imagebuild.engines.work import Work
from pytest_imagebuild.image.chain import Image
from pytest_imagebuild.lockfile import Lockfile
from pytest_imagebuild.options import Options
from pytest_imagebuild.plan.builders import load
from pytest_imagebuild.plan.plan import Plan, plan_image

BUILDER = load("2026.10")
BASE = Image.from_registry("debian:trixie")
NO_NETWORK = StepNetwork(environment={}, tools=(), network="default")


def plugin_arguments() -> list[str]:
    """Return what loads the plugin into an inner pytest: nothing where it is installed."""
    installed = importlib.metadata.entry_points(group="pytest11")
    return [] if "imagebuild" in installed.names else ["-p", "pytest_imagebuild.plugin"]


def plan(image: Image) -> Plan:
    return plan_image(image, BUILDER)


def options_in(folder: Path) -> Options:
    """Return what a run on the engine in memory is told that is told nothing else."""
    return Options(engine="memory", lockfile=folder / "imagebuild.lock", cache_dir=folder / "cache")


@dataclass
class Shell:
    """Plays the commands of steps. Installers answer from `versions` (1.0 for others); a command that holds a text of
    `failing` ends as that says; each command takes `pause` seconds.
    """

    versions: dict[str, str] = field(default_factory=dict)
    failing: dict[str, CommandResult] = field(default_factory=dict)
    pause: float = 0.0
    resolutions: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    """What was resolved: the packages asked for, and the constraints file."""

    def __call__(self, command: str, work: Work) -> CommandResult:
        time.sleep(self.pause)
        constraints = next((entry.data or b"" for entry in work.tools if entry.path == CONSTRAINTS), b"").decode()
        asked = _asked(command)
        if asked is not None:
            self.resolutions.append((asked, constraints))
        for text, result in self.failing.items():
            if text in command or text in constraints:
                return result
        if asked is None:
            return CommandResult(stdout=b"ok\n")
        kept = dict(line.split("==") for line in constraints.splitlines())
        pins = {name: kept.get(name, self.versions.get(name, "1.0")) for name in map(_name, asked)}
        return CommandResult(stdout=_answer(command, pins).encode())


def _asked(command: str) -> tuple[str, ...] | None:
    if match := re.search(r"apt-get install -s (.*)\)", command):
        return tuple(shlex.split(match[1]))
    if match := re.search(r"--report - +(?:-c \S+)? *(.*)", command):
        return tuple(shlex.split(match[1]))
    if match := re.search(r"--dry-run +(?:-c \S+)? *(.*) 2>&1", command):
        return tuple(word for word in shlex.split(match[1]) if word != "-r")
    return None


def _name(request: str) -> str:
    return re.split(r"[<>=!~ @\[]", request, maxsplit=1)[0].rpartition("/")[2]


def _answer(command: str, pins: dict[str, str]) -> str:
    if "apt-get" in command:
        return "\n".join(f"Package: {name}\nVersion: {pins[name]}\nArchitecture: amd64\nSHA256: aa\n" for name in pins)
    if "--report -" in command:
        found = [
            {"metadata": {"name": name, "version": version}, "download_info": {"url": "https://pypi.example/x.whl"}}
            for name, version in pins.items()
        ]
        return json.dumps({"version": "1", "install": found})
    return "".join(f"{name}=={version} \\\n    --hash=sha256:bb\n" for name, version in pins.items())


@dataclass
class Memory(NullProgress):
    """Remembers what a progress hears."""

    reasons: list[tuple[str, str]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)

    def begun(self, layer: str, image: str, title: str) -> None:
        self.titles.append(title)

    def missed(self, title: str, reason: str) -> None:
        self.reasons.append((title, reason))

    def built(self, layer: str, seconds: float) -> None:
        self.ended.append("built")

    def pinned(self, layer: str, seconds: float) -> None:
        self.ended.append("pinned")

    def failed(self, layer: str) -> None:
        self.ended.append("failed")

    def reused(self, layer: str) -> None:
        self.ended.append("reused")


@dataclass
class World:
    """A project folder, a machine's cache and an engine, on which runs of builds follow each other."""

    folder: Path
    shell: Shell = field(default_factory=Shell)
    engine: MemoryEngine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = MemoryEngine(commands=self.shell)

    def builder(
        self,
        run: str,
        *,
        force: bool = False,
        ignore_cache: bool = False,
        locked: bool = False,
        upgrade: Iterable[str] | None = None,
        progress: Progress | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> ImageBuilder:
        """Return the builder of one process of a run. `upgrade` empty means everything."""
        cache = self.folder / "cache"
        settings = BuildSettings(
            run=run,
            cache_dir=cache,
            mode=BuildMode(force=force, ignore_cache=ignore_cache),
            network=NO_NETWORK,
            environment=environment or {},
        )
        mode = LockMode(locked=locked, upgrade=upgrade is not None, names=frozenset(upgrade or ()))
        pins = Pins.read(LockStore(self.folder / "imagebuild.lock", cache), mode, "linux/amd64", run=run)
        return ImageBuilder(self.engine, pins, settings, progress or NullProgress())

    def made(self, *, since: int = 0) -> list[str]:
        """Return the steps of the layers that the engine was told to make, in order."""
        return [labels.step for labels in self.labels(since=since)]

    def labels(self, *, since: int = 0) -> list[LayerLabels]:
        """Return the labels of the layers that the engine was told to make, in order."""
        return [
            argument
            for call in self.engine.calls[since:]
            if call.name in {"build", "import_base"}
            for argument in call.arguments
            if isinstance(argument, LayerLabels)
        ]

    def lockfile(self) -> Lockfile:
        """Return what the project's lockfile holds."""
        return LockStore(self.folder / "imagebuild.lock", self.folder / "cache").read()

    def offer_uv(self) -> None:
        """Put a uv into the cache, so that none is downloaded."""
        binary = self.folder / "cache" / "tools" / f"uv-{BUILDER.uv_version}-linux-amd64"
        binary.parent.mkdir(parents=True, exist_ok=True)
        binary.write_bytes(b"#!/bin/sh\n")
