"""The layer store: folders and small records under the cache folder, all of it safe to read at any moment.

Layers of subordinate ids are in a store of their own, `ids-*` in that of the user alone, as others own their files.

    records/ID.json         what a layer is; never changed
    keys/NAMESPACE/KEY.json the record that a key stands for: a hard link, replaced in one step
    trees/ID                the files that one step wrote, in overlayfs form; never changed
    looked/ID               when they were last found to be so; see `looked.py`
    scratch/OWNER/N         what a container writes while it lives

A layer appears when its key does, after all of its files are in place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_imagebuild.engines.embedded.bwrap import longest_stack
from pytest_imagebuild.engines.embedded.files import Files
from pytest_imagebuild.engines.layers import BuiltLayer, LayerIndex, LayerLabels
from pytest_imagebuild.engines.owner import Owner
from pytest_imagebuild.engines.replacing import replace_text
from pytest_imagebuild.errors import EngineError, EngineUnavailableError

__all__ = ["Record", "Store", "Tree"]

FORMAT = 1
_CACHE = "cache"
_RUN = "run-"
_FLOOR = ("dev", "etc", "proc", "sys", "tmp")
_FLOOR_FILES = ("etc/hosts", "etc/hostname", "etc/resolv.conf")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """The files of one step. `seal` is a digest of what its folders list, to notice damage; `size` is bytes on disk."""

    id: str
    seal: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One layer: its labels, its trees from the bottom up, and the configuration of its image in OCI terms.

    `owner` is who may throw it away: the labels of a process, empty in the cache proper.
    """

    id: str
    labels: LayerLabels
    trees: tuple[Tree, ...]
    config: Mapping[str, Any]
    created: float
    owner: Mapping[str, str]

    def layer(self) -> BuiltLayer:
        """Return it as the engine hands it out."""
        return BuiltLayer(
            labels=self.labels, reference=self.id, size=sum(tree.size for tree in self.trees), created=self.created
        )


class Store:
    """Layers on disk, all made with the same ids. Below `downloads` is what does not depend on ids."""

    def __init__(self, folder: Path, files: Files, *, downloads: Path) -> None:
        self.folder = folder
        self.downloads = downloads
        self.files = files
        self._keys = folder / "keys"
        self._records = folder / "records"
        self._seals = folder / "seals"
        self.trees = folder / "trees"
        self.looked = folder / "looked"

    def prepare(self) -> None:
        """Make the folders. Only their owner may look in: set-user-id programs of images lie there."""
        for folder in (
            self.downloads,
            self.folder,
            self._keys / _CACHE,
            self._records,
            self.trees,
            self.folder / "scratch",
        ):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        maker = self.folder.stat().st_uid
        if maker != os.geteuid():
            raise EngineUnavailableError(
                f"the layers in {self.folder} belong to the user {maker}, and this process to {os.geteuid()}: what "
                "both make does not fit together. Choose another cache folder with IMAGEBUILD_CACHE_DIR."
            )
        for path in _FLOOR:
            (self.floor / path).mkdir(parents=True, exist_ok=True)
        for path in _FLOOR_FILES:
            (self.floor / path).touch()

    def exists(self) -> bool:
        """Say whether it was ever prepared."""
        return self._records.is_dir()

    def parts(self) -> tuple[Path, ...]:
        """Return the folders of its layers, in the order in which they may be removed."""
        merged, scratch = self.folder / "merged", self.folder / "scratch"
        return (self._keys, self._records, self._seals, self.looked, merged, scratch, self.trees, self.floor)

    @property
    def floor(self) -> Path:
        """The lowest tree of every container: what is mounted on, so that an image need not have it."""
        return self.folder / "floor"

    def stack(self, record: Record, upper: Path, above: Sequence[Path] = ()) -> tuple[Path, ...]:
        """Return folders for one mount over `upper`, the uppermost first; many trees are merged into one.

        Room is left for `above`.
        """
        paths = self.paths(record)
        most = longest_stack((self.floor, *above, *reversed(paths)), upper) - 1 - len(above)
        if len(paths) <= most:
            return paths
        # Whole blocks, so that the layers on top of one share what is merged.
        block = max(1, most // 2)
        count = -(-(len(paths) - most + 1) // block) * block
        return (*paths[: len(paths) - count], self._merged(record.trees[:count], block))

    def records(self, namespace: str) -> Iterator[Record]:
        """Return every layer of a namespace. A record that cannot be read is none."""
        return self._whole_records(self._namespace(namespace).glob("*.json"))

    def cached_and_unfinished(self) -> tuple[list[Record], list[Path]]:
        """Return every layer of the cache, and what is being written, or was when its process died.

        Records and trees are not among the latter. Each folder is looked at once.
        """
        cache = self._namespace("")
        hidden, shown = _parted(cache)
        for folder in (*self._keys.iterdir(), self._seals, self.folder / "merged"):
            if folder != cache:
                hidden += _parted(folder)[0]
        return list(self._whole_records(path for path in shown if path.suffix == ".json")), hidden

    def _whole_records(self, paths: Iterable[Path]) -> Iterator[Record]:
        for path in paths:
            record = _read(path)
            if record is not None and self._is_whole(record) and record.labels.key == path.stem:
                yield record

    def index(self, namespace: str) -> LayerIndex:
        """Return the layers of a namespace by their keys. A record that cannot be read is none."""
        folder = self._namespace(namespace)
        trees = str(self.trees)
        there: dict[str, bool] = {}

        def is_there(name: str) -> bool:
            if name not in there:
                there[name] = os.path.isdir(f"{trees}/{name}")  # noqa: PTH112 - a hot loop
            return there[name]

        def find(key: str) -> BuiltLayer | None:
            try:
                found = _load(f"{folder}/{key}.json") if _NAME.fullmatch(key) else {}
                layer = _layer(found)
                whole = all(is_there(tree["id"]) for tree in found["trees"])
            except _UNREADABLE:
                return None
            return layer if whole and (layer.labels.key, layer.labels.namespace) == (key, namespace) else None

        return LayerIndex(find, lambda: [path.stem for path in folder.glob("*.json")])

    def find(self, key: str, namespace: str) -> Record | None:
        """Return the layer of a key."""
        record = _read(self._key(key, namespace))
        if record is None or (record.labels.key, record.labels.namespace) != (key, namespace):
            return None
        return record if self._is_whole(record) else None

    def record(self, reference: str) -> Record:
        """Return a layer by its reference. Raises EngineError where it is gone."""
        record = _read(self._records / f"{reference}.json")
        if record is None or not self._is_whole(record):
            message = f"the layer {reference} is gone from {self.folder}: something removed it; run again to build it"
            raise EngineError(message)
        return record

    def paths(self, record: Record) -> tuple[Path, ...]:
        """Return the folders that a container of a layer is made of, the uppermost first."""
        return tuple(self.trees / tree.id for tree in reversed(record.trees))

    def keep(
        self,
        labels: LayerLabels,
        below: Sequence[Tree],
        written: Path | Sequence[Path] | None,
        config: Mapping[str, Any],
        owner: Owner,
    ) -> Record:
        """Keep the folder `written`, or several, as the uppermost trees of a layer; they are moved, the lowest first.

        What had the key loses it.
        """
        target = self._key(labels.key, labels.namespace)
        trees = tuple(below)
        for folder in [written] if isinstance(written, Path) else written or ():
            if any(folder.iterdir()):
                trees += (self._adopt(folder),)
        record = Record(
            id=uuid.uuid4().hex,
            labels=labels,
            trees=trees,
            config=config,
            created=time.time(),
            owner=owner.labels if labels.namespace else {},
        )
        text = json.dumps({"format": FORMAT, **asdict(record)}, sort_keys=True)
        path = self._records / f"{record.id}.json"
        replace_text(path, text)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A name of its own beside the target, so that the old one is replaced in one step.
        link = target.with_name(f".{record.id}")
        os.link(path, link)
        link.replace(target)
        return record

    def all_records(self) -> Iterator[tuple[Path, Record | None]]:
        """Return the file of every record, with or without a key, and what it says, if it can be read."""
        return ((path, _read(path)) for path in self._records.iterdir())

    def namespaces(self) -> list[str]:
        """Return the throw-away namespaces that have layers."""
        return [_unslug(path.name) for path in self._keys.iterdir() if path.name.startswith(_RUN)]

    def discard(self, record: Record, needed: Collection[str]) -> int:
        """Remove a layer, and those of its trees that are not `needed`; return the bytes freed."""
        self.forget(record)
        (self._records / f"{record.id}.json").unlink(missing_ok=True)
        if record.labels.namespace:
            # Not that of the cache: another process may be about to keep a layer there.
            with contextlib.suppress(OSError):
                self._namespace(record.labels.namespace).rmdir()
        lost = [tree for tree in record.trees if tree.id not in needed]
        return sum(tree.size for tree in lost if self.remove_tree(tree.id))

    def remove_tree(self, name: str) -> bool:
        """Remove a tree; say whether it was there. No container must be on it."""
        going = self.trees / f".{name}-{uuid.uuid4().hex[:8]}"
        try:
            # In one step, so that nobody finds half of it.
            (self.trees / name).rename(going)
        except FileNotFoundError:
            return False
        for note in (self._seals / name, self.looked / name):
            note.unlink(missing_ok=True)
        self.files.remove(going)
        return True

    def has(self, tree: Tree) -> bool:
        """Say whether the folder of a tree is there."""
        return (self.trees / tree.id).is_dir()

    def forget(self, record: Record) -> None:
        """Take the key from a layer, unless it stands for another one by now."""
        path = self._key(record.labels.key, record.labels.namespace)
        current = _read(path)
        if current is None or current.id == record.id:
            path.unlink(missing_ok=True)

    def base_tree(self, diff_id: str) -> Tree | None:
        """Return the tree of a base image's layer by the digest of its archive."""
        name = _base_name(diff_id)
        try:
            tree = Tree(**json.loads((self._seals / name).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        return tree if self.has(tree) else None

    def keep_base_tree(self, written: Path, diff_id: str) -> Tree:
        """Keep the unpacked layer of a base image; the folder is moved."""
        name = _base_name(diff_id)
        seal, size = self.files.survey(written)
        tree = Tree(id=name, seal=seal, size=size)
        self._seals.mkdir(mode=0o700, exist_ok=True)
        replace_text(self._seals / name, json.dumps(asdict(tree)))
        with contextlib.suppress(FileExistsError):
            self.files.move(written, self.trees / name)
        return tree

    def _adopt(self, written: Path) -> Tree:
        seal, size = self.files.survey(written)
        # Short, because the paths of all trees must fit into one mount call.
        name = uuid.uuid4().hex[:12]
        self.files.move(written, self.trees / name)
        return Tree(id=name, seal=seal, size=size)

    def _is_whole(self, record: Record) -> bool:
        return all(self.has(tree) for tree in record.trees)

    def _merged(self, trees: Sequence[Tree], block: int) -> Path:
        """Return the folder of `trees`, the lowest first, merged into one by hard links; made of blocks, once."""
        name = hashlib.sha256("/".join(tree.id for tree in trees).encode()).hexdigest()[:12]
        merged = self.folder / "merged" / name
        if not merged.is_dir():
            rest = trees[:-block]
            lower = [self._merged(rest, block)] if len(rest) > 1 else [self.trees / tree.id for tree in rest]
            merged.parent.mkdir(mode=0o700, exist_ok=True)
            partial = merged.with_name(f".{uuid.uuid4().hex}")
            try:
                self.files.merge((*lower, *(self.trees / tree.id for tree in trees[-block:])), partial)
                replace_text(merged.with_suffix(".trees"), "\n".join(tree.id for tree in trees))
                with contextlib.suppress(FileExistsError):
                    self.files.move(partial, merged)
            finally:
                self.files.remove(partial)
        return merged

    def _namespace(self, namespace: str) -> Path:
        return self._keys / (_slug(namespace) if namespace else _CACHE)

    def _key(self, key: str, namespace: str) -> Path:
        if not _NAME.fullmatch(key):
            raise EngineError(f"{key!r} cannot name a layer: up to 128 letters, digits, '_', '.' and '-' can")
        return self._namespace(namespace) / f"{key}.json"


_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)


def _read(path: Path) -> Record | None:
    try:
        found = _load(str(path))
        found["labels"] = LayerLabels(**found["labels"])
        found["trees"] = tuple(Tree(**tree) for tree in found["trees"])
        return Record(**found)
    except _UNREADABLE:
        return None


def _load(path: str) -> dict[str, Any]:
    """Return what a record says; it raises one of `_UNREADABLE` for none, and for one of another format."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(file, os.fstat(file).st_size)
    finally:
        os.close(file)
    found: dict[str, Any] = json.loads(text)
    if found.pop("format") != FORMAT:
        raise ValueError(path)
    return found


def _layer(found: Mapping[str, Any]) -> BuiltLayer:
    return BuiltLayer(
        labels=LayerLabels(**found["labels"]),
        reference=found["id"],
        size=sum([tree["size"] for tree in found["trees"]]),
        created=found["created"],
    )


def _base_name(diff_id: str) -> str:
    return "b" + diff_id.removeprefix("sha256:")[:20]


def _parted(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return what is in a folder: the hidden, and the rest. Nothing, where it has gone meanwhile."""
    try:
        paths = list(folder.iterdir())
    except FileNotFoundError:
        paths = []
    return [path for path in paths if path.name.startswith(".")], [path for path in paths if path.name[0] != "."]


def _slug(namespace: str) -> str:
    return _RUN + namespace.encode().hex()


def _unslug(name: str) -> str:
    return bytes.fromhex(name.removeprefix(_RUN)).decode()
