"""The layer store of the embedded engine: what a container sees is what the trees say, at any depth."""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_imagebuild.engines import generations
from pytest_imagebuild.engines.embedded import EmbeddedEngine, housekeeping
from pytest_imagebuild.engines.embedded.merge import merge
from pytest_imagebuild.engines.embedded.survey import survey
from pytest_imagebuild.engines.embedded.view import MergedView
from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.protocol import SessionSpec
from pytest_imagebuild.engines.services import ServiceSpec
from pytest_imagebuild.engines.work import Work
from pytest_imagebuild.errors import EngineError

from .conftest import BASE, RUN, new_key, plain_labels


def build(embedded: EmbeddedEngine, on: BuiltLayer, *commands: str, key: str | None = None) -> BuiltLayer:
    return embedded.build(on, Work(commands=commands), plain_labels(key or new_key()), print)


def run(embedded: EmbeddedEngine, layer: BuiltLayer, command: str) -> str:
    return embedded.run(layer, Work(commands=(command,)), print).decode()


def trees_of(embedded: EmbeddedEngine, layer: BuiltLayer) -> list[Path]:
    """Return the folders of a layer's own files, the uppermost first, from the store behind the engine's back."""
    store = embedded._open().store.folder
    record = json.loads((store / "records" / f"{layer.reference}.json").read_text())
    return [store / "trees" / tree["id"] for tree in reversed(record["trees"])]


LISTING = (
    # An overlay counts the links of a folder that has lower parts in its own way, with Docker too.
    r"cd /tree && find . -mindepth 1 \( -type d -printf '%p d %#m\n' -o -printf '%p %y %#m %n %s %l\n' \) | sort"
    " && find . -type f -print0 | sort -z | xargs -0 cat"
)
STEPS = [
    "mkdir -p /tree/a/b /tree/c /tree/gone; echo 1 > /tree/a/b/one && echo 2 > /tree/c/two && ln -s a/b /tree/link",
    "rm -r /tree/gone /tree/c && mkdir /tree/c && echo 3 > /tree/c/three && chmod 2750 /tree/a",
    "ln /tree/c/three /tree/h",
    "mv /tree/a/b /tree/moved && rm /tree/link && mkdir /tree/link && echo 4 > /tree/link/four",
    "rm -r /tree/link && ln -s moved/one /tree/link && echo 5 >> /tree/moved/one && mkdir /tree/gone",
    "rm -r /tree/moved && echo file > /tree/moved && mknod /tree/pipe p && chmod 4711 /tree/h && touch '/tree/ü :,\\n'",
    "rm -r /tree/a && mkdir -p /tree/a/new/deep && rm /tree/c/three && echo back > /tree/c/three",
]


def test_layers_show_what_one_container_that_does_all_steps_shows(embedded: EmbeddedEngine, base: BuiltLayer) -> None:
    layer = base
    for step in STEPS:
        layer = build(embedded, layer, step)
    at_once = run(embedded, base, " && ".join([*STEPS, LISTING]))
    assert run(embedded, layer, LISTING) == at_once
    assert "./moved f" in at_once


def test_the_view_without_a_mount_is_that_of_a_container(embedded: EmbeddedEngine, base: BuiltLayer) -> None:
    layer = base
    for step in STEPS:
        layer = build(embedded, layer, step)
    view = MergedView(trees_of(embedded, layer))
    inside = run(embedded, layer, "find /tree /etc /usr/lib/python3* -printf '%p\\t%y\\t%l\\n'").splitlines()
    assert len(inside) > 500
    for line in inside:
        path, kind, target = line.split("\t")
        found = view.find(path, follow=False)
        assert found is not None, path
        kinds = {"d": stat.S_ISDIR, "f": stat.S_ISREG, "l": stat.S_ISLNK, "p": stat.S_ISFIFO}
        assert kinds[kind](found.status.st_mode), path
        assert not target or str(found.real.readlink()) == target
    for gone in ("/tree/a/b", "/tree/link/four", "/tree/moved/one", "/tree/nothing/at/all"):
        assert view.find(gone) is None
    assert view.destination("/tree/../bin/new/file") == "/usr/bin/new/file"


def test_files_are_put_where_a_container_would_write_them(embedded: EmbeddedEngine, base: BuiltLayer) -> None:
    lower = build(
        embedded, base, "mkdir -p /real /gone/old && ln -s /real /alias && ln -s ../alias/sub /etc/deep && rm -r /srv"
    )
    lower = build(embedded, lower, "rm -r /gone; ln -s /loop2 /loop1; ln -s /loop1 /loop2")
    files = tuple(
        FileEntry(path=path, mode=0o640, data=path.encode())
        for path in ("/alias/sub/one", "/etc/deep/two", "/srv/three", "/gone/four", "/usr/bin/env")
    )
    layer = embedded.build(lower, Work(files=files), plain_labels(), print)
    shown = run(embedded, layer, "cat /real/sub/one /real/sub/two /srv/three /gone/four /usr/bin/env; ls /gone /srv")
    assert shown == "/alias/sub/one/etc/deep/two/srv/three/gone/four/usr/bin/env" + "/gone:\nfour\n\n/srv:\nthree\n"
    for wrong, said in (("/usr", "it is a folder in the image"), ("/usr/bin/sh/x", "is not a folder")):
        with pytest.raises(EngineError, match=said):
            embedded.build(lower, Work(files=(FileEntry(path=wrong, mode=0o644, data=b""),)), plain_labels(), print)
    with pytest.raises(EngineError, match="ring of symbolic links"):
        embedded.build(lower, Work(files=(FileEntry(path="/loop1/x", mode=0o644, data=b""),)), plain_labels(), print)


def test_a_hundred_and_sixty_layers_mount(embedded: EmbeddedEngine, base: BuiltLayer) -> None:
    layer = base
    for number in range(160):
        step = f"rm -rf /d; mkdir /d; echo {number} > /d/{number}; echo {number} > /f{number}; rm -f /f{number - 2}"
        layer = build(embedded, layer, step)
    assert run(embedded, layer, "ls -d /f* /d/*; cat /d/159; python3 -c 'print(40 + 2)'").split() == [
        *("/d/159", "/f158", "/f159", "159", "42")
    ]
    # What is merged is shared: of a hundred and sixty layers, few are made again.
    merged = list((embedded._open().store.folder / "merged").glob("*.trees"))
    assert 1 <= len(merged) <= 8


def test_merged_trees_are_what_they_are_on_top_of_each_other(tmp_path: Path) -> None:
    lower, middle, upper = (tmp_path / name for name in ("lower", "middle", "upper"))
    for path in ("lower/keep/a", "lower/opaque/old", "lower/gone/x", "lower/file", "upper/opaque/new", "middle/keep/b"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    os.setxattr(upper / "opaque", "user.overlay.opaque", b"y")
    os.mknod(middle / "gone", stat.S_IFCHR, 0)
    os.mknod(upper / "file", stat.S_IFCHR, 0)
    os.mknod(upper / "never", stat.S_IFCHR, 0)
    (middle / "keep").chmod(0o500)
    merge((lower, middle, upper), tmp_path / "merged")
    found = {str(path.relative_to(tmp_path / "merged")) for path in (tmp_path / "merged").rglob("*")}
    assert found == {"keep", "keep/a", "keep/b", "opaque", "opaque/new"}
    assert (tmp_path / "merged" / "keep").stat().st_mode & 0o777 == 0o500
    assert (tmp_path / "merged" / "keep" / "a").samefile(lower / "keep" / "a")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a file is gone": lambda tree: (tree / "tree/dir/file").unlink(),
    "a file is cut short": lambda tree: os.truncate(tree / "tree/dir/file", 3),
    "a file was overwritten": lambda tree: (tree / "tree/dir/file").write_text("other words"),
    "a file is new": lambda tree: (tree / "tree/dir/new").touch(),
    "a mode changed": lambda tree: (tree / "tree/dir/file").chmod(0o600),
    "a folder is gone": lambda tree: shutil.rmtree(tree / "tree/dir"),
    "all is gone but the folder": lambda tree: shutil.rmtree(tree / "tree"),
}


def build_on(embedded: EmbeddedEngine, layer: BuiltLayer) -> object:
    return build(embedded, layer, "true")


def run_in(embedded: EmbeddedEngine, layer: BuiltLayer) -> object:
    return run(embedded, layer, "true")


def start_of(embedded: EmbeddedEngine, layer: BuiltLayer) -> object:
    return embedded.start(layer, SessionSpec(command=("echo", "x"))).channel.receive(30)


def serve_of(embedded: EmbeddedEngine, layer: BuiltLayer) -> object:
    return embedded.serve(layer, ServiceSpec(command=("sleep", "60")))


NAMES = [*(name.replace(" ", "-") for name in DAMAGE), "run", "start", "serve"]
CASES = [
    *((damage, build_on) for damage in DAMAGE.values()),
    *((DAMAGE["a file is cut short"], use) for use in (run_in, start_of, serve_of)),
]


@pytest.mark.parametrize(
    ("damage", "use"), CASES, ids=[*(name.replace(" ", "-") for name in DAMAGE), "run", "start", "serve"]
)
def test_a_damaged_layer_is_used_for_nothing_and_built_anew(
    embedded: EmbeddedEngine,
    base: BuiltLayer,
    damage: Callable[[Path], object],
    use: Callable[[EmbeddedEngine, BuiltLayer], object],
) -> None:
    key = new_key()
    step = Work(commands=("mkdir -p /tree/dir && echo some words > /tree/dir/file",))
    layer = embedded.build(base, step, plain_labels(key), print)
    damage(trees_of(embedded, layer)[0])
    # Each process looks once at each layer, so this is another one.
    other = EmbeddedEngine(run=RUN, cache_dir=embedded._cache_dir)
    try:
        found = other.find(key)
        assert found is not None
        with pytest.raises(EngineError, match=r"a layer is damaged: the files in .* were not those that were written"):
            use(other, found)
        assert other.find(key) is None
        anew = other.build(base, step, plain_labels(key), print)
        assert run(other, anew, "cat /tree/dir/file") == "some words\n"
    finally:
        other.close()


def looked_at(embedded: EmbeddedEngine, base: BuiltLayer) -> tuple[BuiltLayer, Path]:
    """Build a layer, and have another process look at it; return the layer and the note of the look."""
    step = Work(commands=("mkdir -p /tree/dir && echo some words > /tree/dir/file",))
    layer = embedded.build(base, step, plain_labels(), print)
    used_by_another(embedded, layer)
    return layer, embedded._open().store.looked / trees_of(embedded, layer)[0].name


def used_by_another(embedded: EmbeddedEngine, layer: BuiltLayer) -> None:
    other = EmbeddedEngine(run=RUN, cache_dir=embedded._cache_dir)
    try:
        run(other, layer, "true")
    finally:
        other.close()


@pytest.mark.parametrize(
    "damage", ["a file is gone", "a file is new", "a folder is gone", "all is gone but the folder"]
)
def test_what_is_removed_or_added_right_after_a_look_is_found(
    embedded: EmbeddedEngine, base: BuiltLayer, damage: str
) -> None:
    layer, note = looked_at(embedded, base)
    assert note.exists()
    DAMAGE[damage](trees_of(embedded, layer)[0])
    with pytest.raises(EngineError, match="a layer is damaged"):
        used_by_another(embedded, layer)
    assert not note.exists()


@pytest.mark.parametrize("passed", [{"time": -1e6}, {"boot": "another"}, {"seal": "another"}, {"folders": None}])
def test_what_is_overwritten_after_a_look_is_found_by_the_next_after_an_hour_or_a_boot(
    embedded: EmbeddedEngine, base: BuiltLayer, passed: dict[str, object]
) -> None:
    layer, note = looked_at(embedded, base)
    DAMAGE["a file was overwritten"](trees_of(embedded, layer)[0])
    used_by_another(embedded, layer)
    note.write_text(json.dumps({**json.loads(note.read_text()), **passed}))
    with pytest.raises(EngineError, match="a layer is damaged"):
        used_by_another(embedded, layer)


def test_a_download_that_was_damaged_on_disk_is_fetched_again(tmp_path: Path) -> None:
    embedded = EmbeddedEngine(run=RUN, cache_dir=tmp_path)
    pin = embedded.pin_base(BASE, print)
    whole = embedded.import_base(BASE, pin, plain_labels(), print)
    blobs = sorted((tmp_path / "embedded" / "blobs").rglob("*"), key=lambda path: path.stat().st_size)
    blobs[-1].write_bytes(blobs[-1].read_bytes()[:-1000] + bytes(1000))
    for tree in trees_of(embedded, whole):
        shutil.rmtree(tree)
    lines: list[str] = []
    again = embedded.import_base(BASE, pin, plain_labels(), lines.append)
    assert any("was damaged on this disk; it is fetched again" in line for line in lines)
    embedded.close()
    other = EmbeddedEngine(run=RUN, cache_dir=tmp_path)
    assert run(other, again, "python3 -c 'print(40 + 2)'") == "42\n"
    other.close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}', '{"format": 1}', "\0" * 1000])
def test_a_record_that_cannot_be_read_is_no_layer(embedded: EmbeddedEngine, base: BuiltLayer, text: str) -> None:
    layer = build(embedded, base, "true")
    key = embedded._open().store.folder / "keys" / "cache" / f"{layer.labels.key}.json"
    key.write_text(text)
    assert embedded.find(layer.labels.key) is None
    assert layer.labels.key not in embedded.layers()
    with pytest.raises(EngineError, match=r"the layer \w+ is gone from .*: something removed it; run again"):
        run(embedded, layer, "true")


def test_what_a_process_left_that_died_while_it_wrote_is_swept_and_nothing_else(
    embedded: EmbeddedEngine, base: BuiltLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = embedded._open().store
    kept = build(embedded, base, "touch /kept")
    died = build(embedded, base, "touch /died")
    key = store.folder / "keys" / "cache" / f"{died.labels.key}.json"
    tree = trees_of(embedded, died)[0]
    key.rename(key.with_name(f".{died.reference}"))
    half = [store.folder / "seals" / ".half", store.folder / "records" / ".half"]
    for path in half:
        path.write_text("{")
    (store.folder / "merged" / ".half" / "inner").mkdir(parents=True)
    embedded.sweep()
    assert all(path.exists() for path in (*half, tree)), "somebody may be writing it now"

    monkeypatch.setattr(housekeeping, "_SETTLED_SECONDS", -1)
    monkeypatch.setattr(generations, "_REPLACED_SECONDS", -1)
    for _ in range(2):
        embedded.sweep()

    assert not tree.exists()
    assert not list(store.folder.glob("keys/*/.*"))
    assert not (store.folder / "merged" / ".half").exists()
    assert not any(path.exists() for path in half)
    assert run(embedded, kept, "ls /kept") == "/kept\n"


def test_a_replaced_layer_is_there_for_the_runs_that_use_it_until_they_end(
    embedded: EmbeddedEngine, base: BuiltLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generations, "_REPLACED_SECONDS", -1)
    key = new_key()
    first = build(embedded, base, "echo 1 > /x", key=key)
    claimed = {key: time.time()}
    second = build(embedded, base, "echo 2 > /x", key=key)

    embedded.sweep(claimed)

    assert run(embedded, first, "cat /x") == "1\n"
    assert not [one for one in embedded.remnants(claimed) if first.reference in one.name]
    later = {key: time.time() + 2}
    assert [one.what for one in embedded.remnants(later) if first.reference in one.name] == [
        "a layer that was replaced"
    ]
    embedded.sweep(later)
    assert run(embedded, second, "cat /x") == "2\n"
    with pytest.raises(EngineError, match=r"the layer \w+ is gone"):
        run(embedded, first, "cat /x")


def test_a_survey_sees_contents_that_were_replaced_by_others_of_the_same_size(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one")
    before = survey(str(tmp_path))
    os.utime(tmp_path / "file", (1, 1))
    after = survey(str(tmp_path))
    assert before[0] != after[0]
    assert before[1] == after[1] == 4096
