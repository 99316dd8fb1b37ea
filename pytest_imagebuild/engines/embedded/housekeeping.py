"""What the layers of the store hold, what no key leads to, and how it goes: nothing that somebody needs."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_imagebuild.engines.embedded.bounds import Bounds
from pytest_imagebuild.engines.embedded.rooms import Rooms
from pytest_imagebuild.engines.generations import NO_CLAIMS, Claims, may_go, replaced
from pytest_imagebuild.engines.stored import Remnant, StoredLayer

if TYPE_CHECKING:
    from pytest_imagebuild.engines.embedded.store import Record, Store
    from pytest_imagebuild.engines.layers import BuiltLayer
    from pytest_imagebuild.engines.owner import Owner

__all__ = ["Housekeeping"]

# Between a tree and its record, between a look-up and a start, and while a download is resumed.
_SETTLED_SECONDS = 3600
# Manifests and configurations: without them a base image is asked of the registry again.
_SMALL = 64 * 1024


class Housekeeping:
    """Looks after one store. It keeps no state: other processes change the store at any time."""

    def __init__(self, store: Store, rooms: Rooms, owner: Owner, others: Sequence[OtherStore] = ()) -> None:
        self._store = store
        self._rooms = rooms
        self._owner = owner
        self._files = store.files
        self._others = others

    def stored(self) -> list[StoredLayer]:
        """Return every layer of the cache proper."""
        records = list(self._store.records(""))
        busy = self._busy()
        owners = _owners(records)
        return [
            StoredLayer(
                built=record.layer(),
                own_size=sum(tree.size for tree in record.trees if owners[tree.id] == record.id),
                in_use=any(tree.id in busy for tree in record.trees),
            )
            for record in records
        ]

    def remove(self, layer: BuiltLayer) -> int | None:
        """Remove a layer unless something needs it; return the bytes freed, None where it stays."""
        records = list(self._store.records(""))
        current = next((record for record in records if record.labels.key == layer.labels.key), None)
        if current is None:
            return 0
        stands_on_it = any(record.labels.parent == layer.labels.key for record in records)
        if current.id != layer.reference or stands_on_it or current.id in self._rooms.in_use():
            return None
        return self._discard(current)

    def sweep(self, claimed: Claims = NO_CLAIMS) -> int:
        """Remove what dead runs left, and what no key has led to for an hour; return how many things."""
        lost = self._lost(claimed)
        swept = self._rooms.sweep() + sum(self.remove_remnant(remnant.name) is not None for remnant in lost)
        return swept + sum(other.sweep() for other in self._others)

    def remnants(self, claimed: Claims = NO_CLAIMS) -> list[Remnant]:
        """Return what can be removed, in an order in which it can."""
        return [
            *(
                Remnant(
                    name=f"scratch/{folder.name}", what="a dead run's containers", size=self._files.disk_usage(folder)
                )
                for folder in self._rooms.dead_runs()
            ),
            *self._lost(claimed),
            *self._downloads(),
            *(remnant for other in self._others for remnant in other.remnants()),
        ]

    def remove_remnant(self, name: str) -> int | None:
        """Remove a remnant by its name; return the bytes freed, None where it is gone."""
        kind, _, rest = name.partition("/")
        if kind == "layer":
            found = next((record for path, record in self._store.all_records() if path.stem == rest), None)
            return self._discard(found) if found is not None else None
        if kind == "store":
            other = next((other for other in self._others if other.name == rest), None)
            return other.remove() if other is not None else None
        path = (self._store.downloads if kind == "blobs" else self._store.folder) / name
        if not path.exists():
            return None
        if kind == "scratch" and path not in set(self._rooms.dead_runs()):
            return None
        size = self._files.disk_usage(path)
        if kind == "trees":
            return size if self._store.remove_tree(rest) else None
        self._files.remove(path)
        return size

    def drop(self, namespace: str) -> None:
        """Remove every layer of a throw-away namespace."""
        for record in list(self._store.records(namespace)):
            self._discard(record)

    def _discard(self, record: Record) -> int:
        return self._store.discard(record, self._needed(but=record.id))

    def _needed(self, *, but: str) -> set[str]:
        """Return the trees that other records name, and those that containers are on."""
        others = (found for path, found in self._store.all_records() if path.stem != but and found is not None)
        return {tree.id for record in others for tree in record.trees} | self._busy()

    def _busy(self) -> set[str]:
        used = self._rooms.in_use()
        return {
            tree.id
            for path, record in self._store.all_records()
            if record is not None and path.stem in used
            for tree in record.trees
        }

    def _lost(self, claimed: Claims) -> Iterator[Remnant]:
        """Find dead runs' layers, layers and trees without a key, what was half written, and merged trees without one.

        Other processes may remove any of it meanwhile.
        """
        used = self._rooms.in_use()
        cached, unfinished = self._store.cached_and_unfinished()
        yield from self._lost_layers(cached, used, claimed)
        old = time.time() - _SETTLED_SECONDS
        for path in unfinished:
            if _changed(path) < old:
                name = str(path.relative_to(self._store.folder))
                yield Remnant(name=name, what="what a dead run was writing", size=0)
        live: set[str] = set()
        for path, record in self._store.all_records():
            # What leads to it is a link: it was changed last when that went.
            changed, key = _changed(path), record.labels.key if record is not None else ""
            if _has_key(path) or path.stem in used or not may_go(key, changed, claimed):
                live |= {tree.id for tree in record.trees} if record is not None else set()
            elif record is not None:
                yield _layer(record, "a layer that was replaced")
            else:
                yield Remnant(name=f"records/{path.name}", what="a record that cannot be read", size=0)
        for path in self._store.trees.iterdir():
            if path.name not in live and _changed(path) < old:
                yield Remnant(
                    name=f"trees/{path.name}", what="files that no layer has", size=self._files.disk_usage(path)
                )
        yield from self._lost_merged()

    def _lost_layers(self, cached: Sequence[Record], used: Collection[str], claimed: Claims) -> Iterator[Remnant]:
        dead = [
            record
            for namespace in self._store.namespaces()
            for record in self._store.records(namespace)
            if self._owner.is_dead(record.owner)
        ]
        yield from (_layer(record, "a dead run's layer") for record in dead)
        by_id = {record.id: record for record in cached}
        for layer in replaced((record.layer() for record in cached), claimed):
            if layer.reference not in used:
                yield _layer(by_id[layer.reference], "a layer on a replaced one")

    def _lost_merged(self) -> Iterator[Remnant]:
        for listing in self._store.folder.glob("merged/*.trees"):
            try:
                names = listing.read_text(encoding="utf-8").split()
            except FileNotFoundError:
                continue
            if not all((self._store.trees / name).is_dir() for name in names):
                yield Remnant(name=f"merged/{listing.stem}", what="merged files of a removed layer", size=0)
                yield Remnant(name=f"merged/{listing.name}", what="merged files of a removed layer", size=0)

    def _downloads(self) -> Iterator[Remnant]:
        """Find archives of base images' layers that are unpacked, or whose download was broken off."""
        old = time.time() - _SETTLED_SECONDS
        # Only `prune` looks for them.
        from pytest_imagebuild.engines.embedded.images import LoadedImages  # noqa: PLC0415

        images = LoadedImages(self._store.downloads / "images").all().values()
        kept = {layer.blob.removeprefix("sha256:") for image in images for layer in image.layers}
        for path in _files(self._store.downloads / "blobs"):
            status = path.lstat()
            if path.name not in kept and status.st_ctime < old and status.st_size > _SMALL:
                name = str(path.relative_to(self._store.downloads))
                yield Remnant(name=name, what="a download", size=status.st_blocks * 512 if status.st_nlink == 1 else 0)


class OtherStore:
    """The store of this cache folder that was made with other ids: none of its layers is used here."""

    def __init__(self, store: Store, owner: Owner) -> None:
        self._store = store
        self._rooms = Rooms(store, owner, Bounds())
        self._housekeeping = Housekeeping(store, self._rooms, owner)

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self._store.folder.name

    def sweep(self) -> int:
        """Remove what dead runs left; return how many things."""
        return self._housekeeping.sweep() if self._store.exists() else 0

    def remnants(self) -> Iterator[Remnant]:
        """Find it whole, unless somebody works with it."""
        if self._store.exists() and not self._rooms.are_lived_in():
            size = sum(self._store.files.disk_usage(part) for part in self._store.parts())
            yield Remnant(name=f"store/{self.name}", what="layers that were made with other ids", size=size)

    def remove(self) -> int | None:
        """Remove it and return the bytes freed; None where it stays."""
        size = sum(remnant.size for remnant in self.remnants())
        if not size:
            return None
        for part in self._store.parts():
            self._store.files.remove(part)
        return size if not any(part.exists() for part in self._store.parts()) else None


def _owners(records: Sequence[Record]) -> dict[str, str]:
    """Return, by its id, the layer that each tree goes with.

    Of a layer and those that stand on it, that is the lowest; of layers beside each other, the newest.
    """
    trees_of = {record.labels.key: {tree.id for tree in record.trees} for record in records}
    owners: dict[str, str] = {}
    for record in sorted(records, key=lambda record: (record.created, record.id)):
        below = trees_of.get(record.labels.parent, set())
        owners |= {tree.id: record.id for tree in record.trees if tree.id not in below}
    return owners


def _layer(layer: Record, what: str) -> Remnant:
    return Remnant(name=f"layer/{layer.id}", what=what, size=layer.trees[-1].size if layer.trees else 0)


def _changed(path: Path) -> float:
    """Return when a file was changed last; never, where it is gone."""
    try:
        return path.lstat().st_ctime
    except FileNotFoundError:
        return float("inf")


def _has_key(record: Path) -> bool:
    try:
        return record.lstat().st_nlink > 1
    except FileNotFoundError:
        return False


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
