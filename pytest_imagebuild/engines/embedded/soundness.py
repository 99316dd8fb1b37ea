"""Whether the files of layers are those that were written: looked at while containers start, where nobody just did."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Sequence
from typing import NamedTuple

from pytest_imagebuild.engines.embedded import survey
from pytest_imagebuild.engines.embedded.identity import Identity
from pytest_imagebuild.engines.embedded.looked import Looked
from pytest_imagebuild.engines.embedded.spawner import Spawner
from pytest_imagebuild.engines.embedded.store import Record, Store, Tree
from pytest_imagebuild.errors import EngineError

__all__ = ["Check", "Soundness"]


class Check(NamedTuple):
    """A look at the files of one layer, which goes on beside whatever else is done."""

    store: Store
    record: Record
    looks: Sequence[_Look]

    def wait(self) -> None:
        """Return once every file has been looked at. Raises EngineError for damage; what is damaged is removed."""
        found = {tree.id for look in self.looks for tree in look.damaged()}
        damaged = [tree for tree in self.record.trees if tree.id in found]
        if damaged:
            folders = ", ".join(str(self.store.trees / tree.id) for tree in damaged)
            raise EngineError(
                f"a layer is damaged: the files in {folders} were not those that were written. They are removed; run "
                "again to build the layer anew."
            )


class _Look:
    """One look at some trees."""

    def __init__(
        self, store: Store, looked: Looked, trees: Sequence[Tree], process: subprocess.Popen[bytes] | None
    ) -> None:
        self._store = store
        self._looked = looked
        self._begun = looked.now()
        self._trees = trees
        self._process = process
        self._waiting = threading.Lock()
        self._damaged: list[Tree] = []

    def damaged(self) -> list[Tree]:
        """Return what is damaged, once every file has been looked at."""
        with self._waiting:
            process, self._process = self._process, None
            if process is not None:
                self._damaged = self._look(process)
            return self._damaged

    def end(self) -> None:
        """Look no further."""
        with self._waiting:
            process, self._process = self._process, None
            if process is not None:
                process.kill()
                process.communicate()

    def _look(self, process: subprocess.Popen[bytes]) -> list[Tree]:
        folders = [str(self._store.trees / tree.id) for tree in self._trees]
        with process:
            printed, said = process.communicate(json.dumps(folders).encode())
        if process.returncode:
            raise EngineError(f"the layers cannot be looked at: {said.decode(errors='replace').strip()}")
        damaged = []
        for tree, (seal, folders) in zip(self._trees, json.loads(printed), strict=True):
            if tree.seal == seal:
                self._looked.note(tree, folders, self._begun)
            else:
                damaged.append(tree)
                # Every layer that has it is none any more.
                self._store.remove_tree(tree.id)
        return damaged


class Soundness:
    """Begins the looks of one process, one for each tree."""

    def __init__(self, store: Store, spawner: Spawner, identity: Identity) -> None:
        self._store = store
        self._identity = identity
        self._spawner = spawner
        self._looked = Looked(store)
        self._looks: dict[str, _Look] = {}
        self._beginning = threading.Lock()

    def begin(self, record: Record) -> Check:
        """Look at the trees of a layer that nobody has looked at lately; return what to wait for."""
        with self._beginning:
            new = [tree for tree in record.trees if tree.id not in self._looks]
            if new:
                unknown = [tree for tree in new if not self._looked.is_sound(tree)]
                look = _Look(self._store, self._looked, unknown, self._start() if unknown else None)
                self._looks.update((tree.id, look) for tree in new)
            looks = dict.fromkeys(self._looks[tree.id] for tree in record.trees)
        return Check(store=self._store, record=record, looks=tuple(looks))

    def trust(self, record: Record) -> None:
        """Take the trees of a layer that was made just now as they are."""
        with self._beginning:
            for tree in record.trees:
                self._looks.setdefault(tree.id, _Look(self._store, self._looked, (), None))

    def close(self) -> None:
        """End what still looks."""
        with self._beginning:
            for look in set(self._looks.values()):
                look.end()

    def _start(self) -> subprocess.Popen[bytes]:
        return self._spawner.start(
            [*self._identity.python, survey.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=self._identity.files,
        )
