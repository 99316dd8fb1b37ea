"""The engines that the tests run on, and what tests see of one behind the plugin's back: one form for all of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest

__all__ = [
    "CHOSEN",
    "PROJECT",
    "EngineUnderTest",
    "Events",
    "Ledger",
    "Made",
    "Outage",
    "Recording",
    "on_one_engine",
    "only",
    "open_engine",
]

PROJECT = "the project "
"""How the step of a layer begins that has the files of a project."""


@dataclass(frozen=True, slots=True)
class Made:
    """A layer that was made. `name` stays when another layer of its key replaces it, `layer` does not."""

    step: str
    name: str
    layer: str


@dataclass(slots=True)
class Ledger:
    """How layers came and went in a cache while a block ran. An engine calls `kept` and `gone`, in order.

    What is there and was not built by force must not be built again, but for projects, which change.
    """

    built: int = 0
    projects: int = 0
    replaced: int = 0
    removed: int = 0
    wrong: list[str] = field(default_factory=list)
    _there: dict[str, str] = field(default_factory=dict)

    def kept(self, key: str, layer: str, generation: str | None, step: str = "") -> None:
        """Note that a key stands for a layer now. Only one that took the place of another has a generation."""
        if self._there.get(key) == layer:
            return
        self.built += 1
        if step.startswith(PROJECT):
            self.projects += 1
        elif generation:
            self.replaced += 1
        elif generation is not None and key in self._there:
            self.wrong.append(f"the layer of the key {key} was built twice: {self._there[key]}, then {layer}")
        self._there[key] = layer

    def gone(self, key: str, layer: str | None = None) -> None:
        """Note that a key stands for no layer any more, or not for this one."""
        if key in self._there and layer in (None, self._there[key]):
            del self._there[key]
            self.removed += 1


class Events(Protocol):
    """What happened to containers and layers of one cache folder since the block was entered, in order."""

    def made(self) -> list[Made]:
        """The layers that were made."""

    def commits(self) -> list[str]:
        """The steps of the layers that were made."""

    def created(self) -> list[str]:
        """The containers that were made."""

    def started(self) -> list[str]:
        """The containers in which something began to run."""

    def ended(self) -> Mapping[str, float]:
        """When each container ended, in seconds since the epoch."""


class Recording(Protocol):
    """What was asked of an engine before the first container was made."""

    def changes(self) -> list[str]:
        """What may have changed the state of the engine. Fails where nothing was asked at all."""

    def look_ups(self) -> int:
        """How often the layers were listed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outage:
    """How an engine is taken away from a run: by variables. `sentence` is how the error begins then."""

    environment: Mapping[str, str]
    sentence: str


class EngineUnderTest(Protocol):
    """An engine with the runs of one cache folder, seen and touched without the plugin.

    A layer or container that "holds" a text holds it in the name of its step.
    """

    name: str
    """What the plugin calls it."""

    cache_dir: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables with which a run uses it."""

    @property
    def outage(self) -> Outage:
        """How a run finds it down."""

    @property
    def host_address(self) -> str:
        """This machine's address as containers reach it."""

    @property
    def reference_pattern(self) -> str:
        """What the engine knows a layer by, as a regular expression."""

    def events(self) -> contextlib.AbstractContextManager[Events]:
        """Watch from entry to exit."""

    def ledger(self, text: str) -> contextlib.AbstractContextManager[Ledger]:
        """Keep account of the layers on those that hold `text`, from entry to exit. It is complete after that."""

    def recorded(self) -> contextlib.AbstractContextManager[Recording]:
        """Note what runs in the block ask of it."""

    def layers(self, text: str) -> dict[str, str]:
        """Return the layers of the cache that hold `text`: each by its name."""

    def thrown_away(self, text: str) -> list[str]:
        """Return the names of the layers outside the cache that hold `text`."""

    def remove_layers(self, *texts: str) -> None:
        """Remove the layers that hold one of `texts`, and those that stand on them."""

    def forget_base(self, repository: str) -> None:
        """Remove what it keeps of the images of a repository, but for layers."""

    def containers(self) -> list[str]:
        """Return the containers, running or not."""

    def has_file(self, container: str, path: str) -> bool:
        """Say whether a running container has a file; False as well when it does not run."""

    def remains(self, text: str) -> list[str]:
        """Return what should not be there after the last run: containers, half-made layers that hold `text`, ..."""

    def key_of(self, reference: str) -> str:
        """Return the key of the layer that it knows by this reference."""

    def output_of(self, reference: str, command: Sequence[str]) -> str:
        """Run a command in a container of the layer and return what it printed."""

    def image_bytes(self, reference: str) -> Iterator[bytes]:
        """Yield all bytes of the files in the image of a layer."""

    def image_description(self, reference: str) -> str:
        """Return all that is kept of the image of a layer but its files: configuration, history, labels."""

    def sweep_settled(self, text: str) -> None:
        """Let the plugin sweep as it would in an hour; on a shared engine, only what stands on what holds `text`."""

    def unsound(self, text: str) -> list[str]:
        """Return what is wrong with the layers on those that hold `text`: damaged, cut off, or without a parent."""


def _embedded(cache_dir: Path) -> EngineUnderTest:
    from embedded_engine import EmbeddedUnderTest

    return EmbeddedUnderTest(cache_dir)


def _docker(cache_dir: Path) -> EngineUnderTest:
    from docker_engine import DockerUnderTest

    return DockerUnderTest(cache_dir)


_ALL: Mapping[str, Callable[[Path], EngineUnderTest]] = {"docker": _docker, "embedded": _embedded}
CHOSEN = [name for name in os.environ.get("IMAGEBUILD_TEST_ENGINES", ",".join(_ALL)).split(",") if name in _ALL]
"""The engines that the tests run on. `IMAGEBUILD_TEST_ENGINES` (as in "docker,embedded") restricts which.

Who parametrizes them together with what is no fixture says `scope="session"`: else each test opens its engine anew.
"""


def open_engine(name: str, cache_dir: Path) -> EngineUnderTest:
    """Return the engine of that name, for runs with this cache folder."""
    return _ALL[name](cache_dir)


def only(name: str) -> pytest.MarkDecorator:
    """Mark tests of what one engine alone has."""
    return pytest.mark.parametrize("engine", [chosen for chosen in CHOSEN if chosen == name], indirect=True)


def on_one_engine() -> pytest.MarkDecorator:
    """Mark tests of what is decided without an engine, or in the container alone: one engine shows it for all."""
    return pytest.mark.parametrize("engine", CHOSEN[-1:], indirect=True)
