"""Execute a Dockerfile: its needed stages in order, each in a place of its own, and keep what the last one comes to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_imagebuild.dockerfile import Dockerfile, Stage, read
from pytest_imagebuild.dockerfile.stages import SCRATCH
from pytest_imagebuild.engines.configuration import PATH
from pytest_imagebuild.engines.embedded.dockerfile.material import Material
from pytest_imagebuild.engines.embedded.dockerfile.refusal import check
from pytest_imagebuild.engines.embedded.dockerfile.running import Runner
from pytest_imagebuild.engines.embedded.dockerfile.settings import Settings
from pytest_imagebuild.engines.embedded.dockerfile.stage import Base, StageBuild
from pytest_imagebuild.engines.embedded.rooms import Room, Rooms
from pytest_imagebuild.engines.embedded.store import Record, Store, Tree
from pytest_imagebuild.engines.layers import LayerLabels
from pytest_imagebuild.engines.protocol import Output
from pytest_imagebuild.engines.work import DockerfileWork

__all__ = ["DockerfileBuild", "Outcome"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a Dockerfile came to: the trees of the image below, folders on top of them, the lowest first, the rest."""

    below: tuple[Tree, ...]
    written: Sequence[Path]
    config: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class DockerfileBuild:
    """Executes Dockerfiles in containers of this machine."""

    store: Store
    rooms: Rooms
    runner: Runner
    platform: str

    def records(self, parent: Record | None, work: DockerfileWork) -> list[Record]:
        """Return the layers that the Dockerfile takes from."""
        found = [self.store.record(layer.reference) for layer in work.bases.values()]
        return [*([parent] if parent is not None else []), *found]

    @contextlib.contextmanager
    def done(self, parent: Record | None, work: DockerfileWork, output: Output) -> Iterator[Outcome]:
        """Execute it; what is yielded is gone afterwards, unless it is moved away.

        Raises DockerfileError before anything runs, and CommandFailed.
        """
        dockerfile = read(
            work.text,
            build_args=work.build_args,
            platform=self.platform,
            target=work.target,
            on_parent=parent is not None,
        )
        dockerfile.check_platform(self.platform)
        check(dockerfile)
        with contextlib.ExitStack() as undo:
            material = Material(undo.enter_context(self.rooms.scratch()), work.context)
            stages = _Stages(self, dockerfile, parent, work, material, output)
            for number in dockerfile.needed:
                room = stages.begin(number)
                undo.callback(room.remove)
                stages.built[number].execute()
            last = stages.built[dockerfile.target]
            yield Outcome(below=last.base.record.trees, written=last.written, config=last.settings.config)


class _Stages:
    """The stages of one Dockerfile; those that were begun are in `built`."""

    def __init__(  # noqa: PLR0917 - made at one place
        self,
        build: DockerfileBuild,
        dockerfile: Dockerfile,
        parent: Record | None,
        work: DockerfileWork,
        material: Material,
        output: Output,
    ) -> None:
        self.built: dict[int, StageBuild] = {}
        self._build = build
        self._dockerfile = dockerfile
        self._parent = parent
        self._work = work
        self._material = material
        self._output = output

    def begin(self, number: int) -> Room:
        """Make the place of a stage whose like before it are done."""
        stage = self._dockerfile.stages[number]
        base = self._below(stage)
        room = self._build.rooms.open(base.record, tuple(reversed(base.written)))
        self.built[number] = StageBuild(
            stage=stage,
            scope=self._dockerfile.scope(),
            settings=Settings(base.config),
            room=room,
            base=base,
            trees_of=lambda name: self._trees(name, number),
            material=self._material,
            work=self._work,
            runner=self._build.runner,
            output=self._output,
        )
        return room

    def _trees(self, name: str, before: int) -> Sequence[Path]:
        store = self._build.store
        other = self._dockerfile.stage(name, before)
        if other is not None:
            return [tree for tree in self.built[other].room.upper.trees if tree != store.floor]
        return store.paths(store.record(self._work.bases[name].reference))

    def _below(self, stage: Stage) -> Base:
        if self._parent is not None and self._dockerfile.stands_on_parent(stage.number):
            return Base(record=self._parent, written=(), config=self._parent.config)
        if stage.below is not None:
            other = self.built[stage.below]
            return Base(record=other.base.record, written=tuple(other.written), config=other.settings.config)
        if stage.image == SCRATCH:
            return Base(record=_NOTHING, written=(), config=_NOTHING.config)
        record = self._build.store.record(self._work.bases[stage.image].reference)
        return Base(record=record, written=(), config=record.config)


_NOTHING = Record(
    id="",
    labels=LayerLabels(key=SCRATCH, parent="", generation="", run=""),
    trees=(),
    config={"Env": [f"PATH={PATH}"], "WorkingDir": "/"},
    created=0,
    owner={},
)
