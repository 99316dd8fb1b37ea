"""What is kept, since when nobody used it, and what goes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from doubles import BASE, World, plan

from pytest_imagebuild.build.inventory import inventory
from pytest_imagebuild.build.prune import Pruned, PruneOptions, prune
from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.layers import BuiltLayer, LayerLabels
from pytest_imagebuild.engines.memory import MemoryEngine
from pytest_imagebuild.engines.stored import Remnant, StoredLayer
from pytest_imagebuild.engines.uses import LastUse, Uses
from pytest_imagebuild.engines.work import Work

DAY = 86400
BASE_STEP = "base"


class Shelf:
    """A store in memory with layers of known sizes and last uses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = MemoryEngine()
        self.uses = Uses(folder, self.engine.capabilities().identity)
        self.layers: dict[str, BuiltLayer] = {}

    def add(self, key: str, size: int, *, on: str = "", unused_days: float | None = None) -> None:
        labels = LayerLabels(key=key, parent=on, generation="", run="r", step=key)
        if on:
            file = FileEntry(path=f"/{key}", mode=0o644, data=b"x" * size)
            layer = self.engine.build(self.layers[on], Work(files=(file,)), labels, print)
        else:
            layer = self.engine.import_base("x", self.engine.pin_base("x", print), labels, print)
        # Made long ago, so that only uses count.
        self.layers[key] = self.engine._layers["", key] = replace(layer, created=0)
        if unused_days is not None:
            self.use(key, unused_days)

    def use(self, key: str, unused_days: float) -> None:
        self.uses.touch(key, f"image of {key}")
        then = time.time() - unused_days * DAY
        os.utime(self.uses._last / key, (then, then))

    def prune(
        self, *, older_than_days: float | None = None, keep_size: int | None = None, dry_run: bool = False
    ) -> list[Pruned]:
        older_than = None if older_than_days is None else older_than_days * DAY
        options = PruneOptions(older_than=older_than, keep_size=keep_size, dry_run=dry_run)
        return list(prune(self.engine, Uses(self.folder, self.uses_identity), self.folder, options))

    @property
    def uses_identity(self) -> str:
        return self.engine.capabilities().identity

    def left(self) -> set[str]:
        return set(self.engine.layers())


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    """Two images on one base: `old` on `common`, unused for 30 days, and `new`, used a day ago."""
    shelf = Shelf(tmp_path)
    shelf.add(BASE_STEP, 0)
    shelf.add("common", 100, on=BASE_STEP)
    shelf.add("old", 10, on="common")
    shelf.add("old-runtime", 5, on="old", unused_days=30)
    shelf.add("new", 20, on="common")
    shelf.add("new-runtime", 5, on="new", unused_days=1)
    yield shelf
    shelf.uses.release()


def names(pruned: list[Pruned]) -> list[str]:
    return [one.what for one in pruned if one.freed is not None]


# last use -----------------------------------------------------------------------------------------------------------


def test_a_layer_was_last_used_when_anything_above_it_was(shelf: Shelf) -> None:
    now = time.time()
    kept = {layer.key: layer for layer in inventory(shelf.engine.stored(), shelf.uses.last_uses())}
    days = {key: round((now - layer.last_use) / DAY) for key, layer in kept.items()}
    assert days == {"base": 1, "common": 1, "old": 30, "old-runtime": 30, "new": 1, "new-runtime": 1}
    assert {key: layer.image for key, layer in kept.items() if layer.image} == {
        "old-runtime": "image of old-runtime",
        "new-runtime": "image of new-runtime",
    }


def test_a_layer_that_nobody_used_counts_from_its_making() -> None:
    labels = LayerLabels(key="a", parent="", generation="", run="r")
    built = BuiltLayer(labels=labels, reference="x", size=1, created=500.0)
    stored = StoredLayer(built=built, own_size=1)
    assert inventory([stored], {})[0].last_use == 500.0
    assert inventory([stored], {"a": LastUse(time=400.0, image="")})[0].last_use == 500.0
    assert inventory([stored], {"a": LastUse(time=600.0, image="")})[0].last_use == 600.0


def test_no_layer_comes_before_one_that_stands_on_it(shelf: Shelf) -> None:
    order = [layer.key for layer in inventory(shelf.engine.stored(), shelf.uses.last_uses())]
    assert order == ["old-runtime", "old", "new-runtime", "new", "common", "base"]


# what goes ----------------------------------------------------------------------------------------------------------


def test_without_options_no_layer_of_the_cache_goes(shelf: Shelf) -> None:
    assert shelf.prune() == []
    assert len(shelf.left()) == 6


def test_what_was_last_used_longer_ago_goes_with_what_nothing_else_needs(shelf: Shelf) -> None:
    pruned = shelf.prune(older_than_days=14)
    assert [(one.what, one.freed) for one in pruned] == [("old-runtime", 5), ("old", 10)]
    assert shelf.left() == {"base", "common", "new", "new-runtime"}
    assert shelf.prune(older_than_days=14) == []


def test_what_was_used_in_the_future_is_as_good_as_used_now(shelf: Shelf) -> None:
    for key in shelf.left():
        shelf.use(key, -400)
    assert shelf.prune(older_than_days=1) == []
    assert names(shelf.prune(older_than_days=0))
    assert shelf.left() == set()


def test_a_size_is_reached_by_the_least_recently_used_first_and_no_further(shelf: Shelf) -> None:
    assert names(shelf.prune(keep_size=140)) == []
    assert names(shelf.prune(keep_size=139)) == ["old-runtime"]
    assert names(shelf.prune(keep_size=126)) == ["old"]
    assert names(shelf.prune(keep_size=101)) == ["new-runtime", "new"]
    assert names(shelf.prune(keep_size=0)) == ["common"]
    assert shelf.left() == {"base"}, "it holds nothing of its own"


def test_both_bounds_hold_together(shelf: Shelf) -> None:
    assert names(shelf.prune(older_than_days=14, keep_size=120)) == ["old-runtime", "old", "new-runtime"]


def test_a_layer_whose_children_went_counts_as_used_when_they_were(shelf: Shelf) -> None:
    shelf.prune(keep_size=101)
    assert shelf.left() == {"base", "common"}
    assert shelf.prune(older_than_days=14) == []
    assert names(shelf.prune(older_than_days=0.5)) == ["common", "base"]


def test_what_a_container_needs_stays_with_what_it_stands_on(shelf: Shelf) -> None:
    shelf.engine.in_use.add("old")
    pruned = shelf.prune(older_than_days=0)
    assert names(pruned) == ["old-runtime", "new-runtime", "new"]
    assert [one.what for one in pruned if one.freed is None] == ["old"]
    assert shelf.left() == {"base", "common", "old"}


def test_what_a_run_claimed_stays_with_what_it_stands_on(shelf: Shelf) -> None:
    run = Uses(shelf.folder, shelf.uses_identity)
    run.claim(["base", "common", "new"])
    assert names(shelf.prune(keep_size=0)) == ["old-runtime", "old", "new-runtime"]
    run.release()
    assert names(shelf.prune(keep_size=0)) == ["new", "common"]


def test_a_dry_run_says_the_same_and_removes_nothing(shelf: Shelf) -> None:
    shelf.engine.in_use.add("old")
    run = Uses(shelf.folder, shelf.uses_identity)
    run.claim(["new"])
    told = shelf.prune(older_than_days=0, dry_run=True)
    assert len(shelf.left()) == 6
    assert [(one.what, one.freed) for one in told] == [(one.what, one.freed) for one in shelf.prune(older_than_days=0)]
    run.release()


def test_what_no_key_leads_to_goes_without_being_asked_for(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    remnant = Remnant(name="x", what="a dead run's layer", size=7)
    monkeypatch.setattr(shelf.engine, "remnants", lambda _: [remnant])
    assert shelf.prune(dry_run=True) == [Pruned(what="a dead run's layer", freed=7)]
    assert [call.name for call in shelf.engine.calls].count("remove") == 0
    shelf.prune()
    assert [call.arguments for call in shelf.engine.calls if call.name == "remove"] == [(remnant,)]


# downloads ----------------------------------------------------------------------------------------------------------


def download(folder: Path, name: str, *, unused_days: float) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x" * 8192)
    then = time.time() - unused_days * DAY
    os.utime(path, (then, then))
    return path


def test_downloads_go_by_their_last_use(shelf: Shelf, tmp_path: Path) -> None:
    old = download(tmp_path, "bases/" + "0" * 64 + ".tar", unused_days=20)
    new = download(tmp_path, "tools/uv-0.9-linux-amd64", unused_days=1)
    record = download(tmp_path, "bases/debian-trixie-amd64.json", unused_days=20)
    lock = download(tmp_path, "tools/uv-0.9-linux-amd64.lock", unused_days=20)
    assert shelf.prune() == []
    assert "0" * 64 + ".tar (base image made from Debian's packages)" in names(shelf.prune(older_than_days=14))
    assert [path.exists() for path in (old, new, record, lock)] == [False, True, True, True]


def test_a_download_that_was_just_read_stays(shelf: Shelf, tmp_path: Path) -> None:
    path = download(tmp_path, "tools/uv-0.9-linux-amd64", unused_days=0.01)
    shelf.prune(older_than_days=0)
    assert path.exists()


def test_a_size_is_about_layers_alone(shelf: Shelf, tmp_path: Path) -> None:
    path = download(tmp_path, "tools/uv-0.9-linux-amd64", unused_days=20)
    assert shelf.prune(keep_size=140) == []
    assert path.exists()


def test_a_download_that_broke_off_goes_without_being_asked_for_unless_it_is_fresh(
    shelf: Shelf, tmp_path: Path
) -> None:
    old = [
        download(tmp_path, "bases/debian-trixie-amd64.77.partial", unused_days=2),
        download(tmp_path, "tools/uv-0.9-linux-amd64.77", unused_days=2),
    ]
    fresh = download(tmp_path, "bases/debian-trixie-amd64.78.partial", unused_days=0.1)
    assert len(shelf.prune()) == 2
    assert [path.exists() for path in (*old, fresh)] == [False, False, True]


# beside runs --------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def empty(world: World) -> list[str]:
    cache = world.folder / "cache"
    uses = Uses(cache, world.engine.capabilities().identity)
    return names(list(prune(world.engine, uses, cache, PruneOptions(older_than=-60))))


def test_what_a_builder_built_or_found_stays_until_it_is_closed(world: World) -> None:
    image = plan(BASE.run_commands("a"))
    first = world.builder("first")
    first.build(image)
    assert empty(world) == []
    first.close()
    second = world.builder("second")
    assert second.warm(image) is not None
    assert empty(world) == []
    second.close()
    assert len(empty(world)) == 2


def test_a_builder_whose_look_up_is_stale_looks_again(world: World) -> None:
    lower, upper = plan(BASE.run_commands("a")), plan(BASE.run_commands("b"))
    first = world.builder("first")
    first.build_all([lower, upper])
    first.close()
    second = world.builder("second")
    assert second.warm(lower) is not None
    assert empty(world) == ['run_commands("b")']
    done = len(world.engine.calls)
    assert second.build(upper).labels.key in world.engine.layers()
    assert world.made(since=done) == ['run_commands("b")']


def test_a_look_up_that_a_removal_overtook_is_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    image = plan(BASE.run_commands("a"))
    first = world.builder("first")
    first.build(image)
    first.close()
    look_up = world.engine.layers

    def overtaken(namespace: str = "") -> dict[str, BuiltLayer]:
        found = dict(look_up(namespace))
        monkeypatch.setattr(world.engine, "layers", look_up)
        assert len(empty(world)) == 2
        return found

    monkeypatch.setattr(world.engine, "layers", overtaken)
    done = len(world.engine.calls)
    top = world.builder("second").build(image)
    assert len(world.made(since=done)) == 2
    assert world.engine.find(top.labels.key) == top


def test_a_run_notes_the_image_that_it_used(world: World) -> None:
    image = BASE.run_commands("a")
    builder = world.builder("first")
    top = builder.build(plan(image))
    uses = Uses(world.folder / "cache", world.engine.capabilities().identity)
    assert {key: use.image for key, use in uses.last_uses().items()} == {
        top.labels.key: f"{image.label}, {image.where}"
    }


def test_a_run_that_ignores_the_cache_claims_and_notes_nothing(world: World) -> None:
    world.builder("first", ignore_cache=True).build(plan(BASE.run_commands("a")))
    assert not (world.folder / "cache" / "uses").exists()
