"""The project layer: the files of the project as they once were, on top of an image and its runtime layer.

To write thousands of files takes seconds, for every container anew. So they are kept in the engine, and a session is
sent what has changed since. The layer is made anew where that is much.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_imagebuild.build.builder import ImageBuilder
from pytest_imagebuild.build.notes import KeptFiles, Notes
from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.protocol import Engine
from pytest_imagebuild.errors import EngineError
from pytest_imagebuild.image.canonical import digest
from pytest_imagebuild.session.kept import Changes, Status, changes, settled, size_of, statuses
from pytest_imagebuild.session.runtime import COMMAND
from pytest_imagebuild.session.tree import ProjectTree, payload

__all__ = ["Ground", "Projects", "files_in"]

FEW_FILES, FEW_BYTES = 100, 1024 * 1024
"""A project with less than both is sent as fast as it is looked up."""

_MANY = 10
"""The layer is made anew where this part of it has changed, and more than `FEW_FILES` or `FEW_BYTES`."""

_MOMENT_SECONDS = 0.5

_ARCHIVE = "/.imagebuild/project.tar"


@dataclass(frozen=True, slots=True)
class Ground:
    """What a container is started of, and the files of the project that it has then."""

    layer: BuiltLayer
    files: Mapping[str, Status] = field(default_factory=dict)


class Projects:
    """Keeps the project of one run in layers on top of those of its images."""

    def __init__(self, builder: ImageBuilder, tree: ProjectTree) -> None:
        self._builder = builder
        self._tree = tree
        self._notes = _notes(builder.engine, builder.settings.cache_dir)
        self._grounds: dict[str, Ground] = {}
        self._looked = float("-inf")
        self._seen: Mapping[str, Status] = {}

    def ground(self, below: BuiltLayer, image: str) -> Ground:
        """Return what to start the containers of an image of, which is `below` with its runtime layer.

        `image` describes it. Raises EngineError.
        """
        if below.reference not in self._grounds:
            kept = self._builder.settings.namespace == "" and _is_large(self._files())
            self._grounds[below.reference] = self._kept(below, image) if kept else Ground(below)
        return self._grounds[below.reference]

    def changes(self, ground: Ground) -> Changes:
        """Return what has changed since the files of a layer were read."""
        if not ground.files:
            return Changes()
        return changes(ground.files, self._files())

    def _files(self) -> Mapping[str, Status]:
        """Return what the file system says of the files, a moment ago at most."""
        now = time.monotonic()
        if now - self._looked > _MOMENT_SECONDS:
            self._looked, self._seen = now, statuses(self._tree)
        return self._seen

    def _kept(self, below: BuiltLayer, image: str) -> Ground:
        key = digest({"project": str(self._tree.root), "below": below.labels.key})
        title = f"the project {self._tree.root}"
        described = f"{image}, {title}"
        found = self._found(key, below, described)
        if found is None:
            with self._builder.locked(key):
                found = self._found(key, below, described) or self._made(key, below, title)
        return found

    def _found(self, key: str, below: BuiltLayer, image: str) -> Ground | None:
        noted = self._notes.read(key)
        if noted is None or noted.below != below.reference:
            return None
        if not noted.reference:
            return Ground(below)
        layer = self._builder.claimed(key, image)
        if layer is None or layer.reference != noted.reference:
            return None
        now = self._files()
        return None if _are_many(changes(noted.files, now), now) else Ground(layer, noted.files)

    def _made(self, key: str, below: BuiltLayer, title: str) -> Ground:
        from pytest_imagebuild.engines.work import CommandFailed, Work  # noqa: PLC0415 - most runs make none

        files = settled(statuses(self._tree))
        work = Work(
            tools=(FileEntry(path=_ARCHIVE, mode=0o600, data=payload([self._tree], ())),),
            commands=(f"{COMMAND[0]} unpack {_ARCHIVE}",),
            network="none",
        )
        try:
            layer = self._builder.put(key, below, work, title)
        except CommandFailed:
            # The place of the project is none that an image can have files in, as one below /dev.
            self._notes.write(key, KeptFiles(reference="", below=below.reference))
            return Ground(below)
        except EngineError:
            # Where this cannot be done, what is done instead says why.
            return Ground(below)
        self._notes.write(key, KeptFiles(reference=layer.reference, below=below.reference, files=files))
        return Ground(layer, files)


def files_in(layer: BuiltLayer, engine: Engine, cache_dir: Path) -> Mapping[str, Status]:
    """Return the files of a project that a layer has: none but a project layer has any."""
    noted = _notes(engine, cache_dir).read(layer.labels.key)
    return noted.files if noted is not None and noted.reference == layer.reference else {}


def _notes(engine: Engine, cache_dir: Path) -> Notes:
    return Notes(cache_dir, engine.capabilities().identity)


def _is_large(files: Mapping[str, Status]) -> bool:
    return len(files) >= FEW_FILES or sum(map(size_of, files.values())) >= FEW_BYTES


def _are_many(found: Changes, now: Mapping[str, Status]) -> bool:
    count = found.changed + len(found.removed)
    size = sum(map(size_of, now.values()))
    return count > max(FEW_FILES, len(now) // _MANY) or found.size > max(FEW_BYTES, size // _MANY)
