"""Notes of the files that a layer has: how they are kept, and which of them go."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_imagebuild.build.notes import KeptFiles, Notes
from pytest_imagebuild.build.prune import PruneOptions, prune
from pytest_imagebuild.engines.layers import BuiltLayer, LayerLabels
from pytest_imagebuild.engines.memory import MemoryEngine
from pytest_imagebuild.engines.uses import Uses
from pytest_imagebuild.engines.work import Work

NOTE = KeptFiles(reference="layer", below="runtime", files={"/p/a.py": (1, 2, 3, 4, 5), "/p/b.py": ()})


class Kept:
    """A store in memory with a layer, one of a project on it, and the notes of its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = MemoryEngine()
        self.notes = Notes(folder, self.identity)
        self.below = self.engine.import_base("x", self.engine.pin_base("x", print), labels("below"), print)
        self.project = self.make("project")

    @property
    def identity(self) -> str:
        return self.engine.capabilities().identity

    def make(self, key: str) -> BuiltLayer:
        made = self.engine.build(self.below, Work(), labels(key, on="below"), print)
        self.note(key, made.reference)
        return made

    def note(self, key: str, reference: str, below: str = "") -> None:
        self.notes.write(key, KeptFiles(reference=reference, below=below or self.below.reference))

    def uses(self) -> Uses:
        return Uses(self.folder, self.identity)

    def prune(self, *, older_than: float | None = None, dry_run: bool = False) -> None:
        options = PruneOptions(older_than=older_than, dry_run=dry_run)
        list(prune(self.engine, self.uses(), self.folder, options))

    def noted(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "projects").rglob("*") if path.is_file())


def labels(key: str, on: str = "") -> LayerLabels:
    return LayerLabels(key=key, parent=on, generation="", run="r", step=key)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


# how they are kept ---------------------------------------------------------------------------------------------------


def test_a_note_is_read_as_it_was_written(tmp_path: Path) -> None:
    odd = os.fsdecode(b"/p/\xff.py")
    note = KeptFiles(reference="layer", below="runtime", files={**NOTE.files, odd: ()})
    notes = Notes(tmp_path, "store")
    notes.write("key", note)
    assert notes.read("key") == note
    assert [path.name for path in (tmp_path / "projects/store").iterdir()] == ["key.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 0}', '{"format": 1, "reference": "x", "below": "y"}'])
def test_a_note_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    notes = Notes(tmp_path, "store")
    notes.write("key", NOTE)
    (tmp_path / "projects/store/key.json").write_text(text)
    assert notes.read("key") is None
    assert notes.read("none") is None


def test_a_store_of_which_nothing_was_noted_has_lost_nothing(tmp_path: Path) -> None:
    assert Notes(tmp_path, "store").lost({}) == []


# which go ------------------------------------------------------------------------------------------------------------


def test_the_note_of_a_layer_goes_with_it_and_no_sooner(kept: Kept) -> None:
    kept.prune()
    assert kept.noted() == ["project.json"]
    kept.prune(older_than=0, dry_run=True)
    assert kept.noted() == ["project.json"]
    kept.prune(older_than=0)
    assert kept.engine.layers() == {}
    assert kept.noted() == []


def test_the_note_of_a_layer_that_stays_stays(kept: Kept) -> None:
    kept.engine.in_use.add("project")
    kept.prune(older_than=0)
    assert kept.noted() == ["project.json"]


def test_notes_that_are_of_no_layer_that_is_there_go_without_being_asked_for(kept: Kept) -> None:
    kept.note("gone", "a layer that was removed")
    kept.make("replaced")
    kept.make("other")
    kept.note("replaced", "the layer before")
    kept.note("impossible", "")
    kept.note("impossible there", "", below="an image that was removed")
    (folder,) = (kept.folder / "projects").iterdir()
    (folder / "cut.json").write_text("{")
    (folder / ".killed.json.1234abcd").write_text("{")
    before = kept.noted()
    kept.prune(dry_run=True)
    assert kept.noted() == before
    kept.prune()
    assert kept.noted() == ["impossible.json", "other.json", "project.json"]


def test_a_layer_that_is_there_is_not_removed_for_its_note(kept: Kept) -> None:
    kept.note("project", "the layer before")
    kept.prune()
    assert kept.noted() == []
    assert set(kept.engine.layers()) == {"below", "project"}


def test_what_a_run_is_writing_stays(kept: Kept) -> None:
    run = kept.uses()
    run.claim(["new"])
    kept.note("new", "a layer that is about to be there")
    (folder,) = (kept.folder / "projects").iterdir()
    (folder / ".new.json.1234abcd").write_text("{")
    kept.prune()
    assert kept.noted() == [".new.json.1234abcd", "new.json", "project.json"]
    run.release()
    kept.prune()
    assert kept.noted() == ["project.json"]


def test_a_note_that_a_run_wrote_after_the_look_stays(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.note("new", "a layer that is gone")
    look_up = kept.engine.layers

    def overtaken(namespace: str = "") -> Mapping[str, BuiltLayer]:
        found = look_up(namespace)
        monkeypatch.setattr(kept.engine, "layers", look_up)
        run = kept.uses()
        run.claim(["new"])
        kept.make("new")
        run.release()
        return found

    monkeypatch.setattr(kept.engine, "layers", overtaken)
    kept.prune()
    assert kept.noted() == ["new.json", "project.json"]
