"""Which ids the containers of this process have: it decides where layers are kept, and who works on their files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pytest_imagebuild.engines.embedded.files import Files, OwnFiles
from pytest_imagebuild.engines.embedded.identity import Identity, own_identity
from pytest_imagebuild.engines.embedded.namespace import Namespace, NamespaceFiles
from pytest_imagebuild.engines.embedded.spawner import Spawner
from pytest_imagebuild.engines.embedded.store import Store
from pytest_imagebuild.engines.embedded.subids import NoSubordinateIds

__all__ = ["BegunIds", "Ids"]

_FORCED = "IMAGEBUILD_EMBEDDED_IDS"
"""For tests: `one` leaves subordinate ids alone."""


class Ids(NamedTuple):
    """`folder` is the part of the store that belongs to them, `widest` works on the files of every part."""

    identity: Identity
    files: Files
    widest: Files
    folder: str

    def store(self, folder: Path) -> Store:
        """Return the store of these ids."""
        return Store(folder / self.folder, self.files, downloads=folder)

    def other_stores(self, folder: Path) -> Iterator[Store]:
        """Return those of other ids."""
        for found in (folder, *sorted(folder.glob("ids-*"))):
            if found != folder / self.folder:
                yield Store(found, self.widest, downloads=folder)


class BegunIds:
    """What is being made, while the process does something else."""

    def __init__(self, spawner: Spawner) -> None:
        self._namespace: Namespace | None = None
        if os.geteuid() != 0:
            try:
                self._namespace = Namespace(spawner)
            except NoSubordinateIds:
                return

    def ready(self) -> Ids:
        """Return the most that can be had: subordinate ids, else this user alone; root has every id."""
        namespace = self._entered()
        own = OwnFiles(keep_owners=os.geteuid() == 0)
        widest: Files = own if namespace is None else NamespaceFiles(namespace)
        if namespace is None or os.environ.get(_FORCED) == "one":
            return Ids(identity=own_identity(), files=own, widest=widest, folder="")
        return Ids(identity=namespace.identity(), files=widest, widest=widest, folder=namespace.name)

    def close(self) -> None:
        """End what works on the files."""
        if self._namespace is not None:
            self._namespace.close()

    def _entered(self) -> Namespace | None:
        try:
            if self._namespace is not None:
                self._namespace.enter()
        except NoSubordinateIds:
            return None
        return self._namespace
