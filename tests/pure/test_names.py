"""Published images: what a name may be, what is built on one, and what keeps it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from doubles import BASE, World, plan

from pytest_imagebuild import DefinitionError, Image
from pytest_imagebuild.build.names import Names
from pytest_imagebuild.build.prune import PruneOptions, prune
from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.uses import Uses
from pytest_imagebuild.image.steps.bases import FromNameStep

LONG = "x" * 65
RULES = "may have letters, digits, '-', '_' and '.' only; write NAME or NAME:TAG"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def names(world: World) -> Names:
    return Names(world.folder / "cache", world.engine.capabilities().identity)


def published(world: World, name: str = "base:latest", command: str = "a") -> BuiltLayer:
    layer = world.builder("first").build(plan(BASE.run_commands(command)))
    return names(world).publish(name, layer, world.engine, "first", print)


def step(image: Image) -> FromNameStep:
    found = image.steps[0]
    assert isinstance(found, FromNameStep)
    return found


# names --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "whole"),
    [
        ("base", "base:latest"),
        ("base:1.0", "base:1.0"),
        ("A_b-c.d:T_1", "A_b-c.d:T_1"),
        ("base:im-1", "base:im-1"),
        ("dev/base", "dev/base:latest"),
        ("team/dev/base:2", "team/dev/base:2"),
        ("x" * 64, "x" * 64 + ":latest"),
    ],
)
def test_a_name_is_made_whole(given: str, whole: str) -> None:
    assert step(Image.from_name(given)).name == whole


def test_the_environment_is_a_prefix() -> None:
    assert Image.from_name("base", environment_name="dev") == Image.from_name("dev/base:latest")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (1, "from_name: name must be a string, got 1 (int)"),
        ("", "from_name: '' has an empty name; write NAME or NAME:TAG"),
        ("base:", "from_name: 'base:' has an empty tag; write NAME or NAME:TAG"),
        ("/base", "from_name: '/base' has an empty prefix; write NAME or NAME:TAG"),
        ("dev/", "from_name: 'dev/' has an empty name; write NAME or NAME:TAG"),
        (
            "a/b/c/d",
            "from_name: 'a/b/c/d' has 3 prefixes; write NAME, ENVIRONMENT/NAME or WORKSPACE/ENVIRONMENT/NAME",
        ),
        (LONG, f"from_name: the name in '{LONG}' has 65 characters; 64 are the most"),
        (f"a:{LONG}", f"from_name: the tag in 'a:{LONG}' has 65 characters; 64 are the most"),
        ("a b", f"from_name: the name 'a b' {RULES}"),
        ("a:b:c", f"from_name: the tag 'b:c' {RULES}"),
        ("ü/a", f"from_name: the prefix 'ü' {RULES}"),
        ("im-abc", "from_name: the name of an image cannot start with 'im-', got 'im-abc'; a tag can"),
        (
            "ap-" + "a1" * 11,
            "from_name: the name 'ap-" + "a1" * 11 + "' looks like the id of an app; choose another one",
        ),
    ],
)
def test_a_bad_name_is_refused_at_the_call(given: str, sentence: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        Image.from_name(given)
    assert str(caught.value).partition("test_names.py:")[2].partition(": ")[2] == sentence


def test_an_environment_and_a_prefix_are_one_too_many() -> None:
    with pytest.raises(DefinitionError) as caught:
        Image.from_name("dev/base", environment_name="prod")
    assert str(caught.value).endswith(
        "from_name: environment_name='prod' and the prefix of 'dev/base' say the same; use one of them"
    )


# building -----------------------------------------------------------------------------------------------------------


def test_what_stands_on_a_name_is_built_on_the_published_layer(world: World) -> None:
    base = published(world)
    done = len(world.engine.calls)
    top = world.builder("second").build(plan(Image.from_name("base").run_commands("b")))
    assert world.made(since=done) == ['run_commands("b")']
    assert top.labels.parent == base.labels.key
    assert top.labels.inputs["parent"] == base.labels.key
    assert world.engine.images[top.reference].commands == ("a", "b")


def test_a_name_itself_is_never_built_even_by_force(world: World) -> None:
    base = published(world)
    done = len(world.engine.calls)
    for builder in (world.builder("second", force=True), world.builder("third", ignore_cache=True)):
        assert builder.build(plan(Image.from_name("base"))) == base
    assert world.made(since=done) == []


def test_a_warm_run_on_a_name_builds_nothing(world: World) -> None:
    published(world)
    image = plan(Image.from_name("base").run_commands("b"))
    world.builder("second").build(image)
    done = len(world.engine.calls)
    builder = world.builder("third")
    (future,) = builder.build_all([image])
    assert future.result().labels.step == 'run_commands("b")'
    assert world.made(since=done) == []


def test_the_lockfile_says_nothing_of_a_name(world: World) -> None:
    published(world)
    before = world.lockfile()
    world.builder("second").build(plan(Image.from_name("base").run_commands("b")))
    assert world.lockfile() == before
    image = plan(Image.from_name("base").pip_install("six"))
    world.builder("third").build(image)
    (record,) = world.lockfile().layers
    assert record.base == "published base:latest"
    assert world.lockfile().bases == before.bases
    published(world, command="other")
    world.builder("fourth", locked=True).build(image)


def test_another_image_under_the_name_gives_other_keys(world: World) -> None:
    image = plan(Image.from_name("base").run_commands("b"))
    published(world)
    first = world.builder("second").build(image)
    published(world, command="other")
    assert world.builder("third").build(image).labels.key != first.labels.key


def test_a_name_that_nothing_has_is_explained_at_the_users_line(world: World) -> None:
    published(world, "base:1")
    published(world, "dev/base:latest")
    images = [plan(Image.from_name("team").run_commands("b")), plan(BASE.run_commands("c"))]
    failed, built = world.builder("second").build_all(images)
    assert str(failed.exception()).partition("test_names.py:")[2].partition(": ")[2] == (
        "from_name: no image named 'team:latest' is published on the memory engine of this machine, which has base:1, "
        "dev/base:latest. Publish it first: build the image, `image.build()`, then call `image.publish('team')`."
    )
    assert built.result().labels.step == 'run_commands("c")'


def test_a_layer_that_somebody_removed_has_no_name_any_more(world: World) -> None:
    base = published(world)
    del world.engine._layers["", base.labels.key]
    with pytest.raises(DefinitionError, match="which has none"):
        world.builder("second").build(plan(Image.from_name("base")))


# keeping ------------------------------------------------------------------------------------------------------------


def test_housekeeping_keeps_a_published_layer_and_takes_what_it_was_made_of(world: World) -> None:
    base = published(world)
    world.builder("second").close()
    cache = world.folder / "cache"
    uses = Uses(cache, world.engine.capabilities().identity)
    options = PruneOptions(keep_size=-1)
    gone = list(prune(world.engine, uses, cache, options))
    assert len(gone) == 2
    assert list(world.engine.layers()) == [base.labels.key]
    assert names(world).withdraw("base:latest")
    assert not names(world).withdraw("base:latest")
    (last,) = prune(world.engine, uses, cache, options)
    assert last.what == 'run_commands("a")'


def test_publishing_again_makes_nothing_anew(world: World) -> None:
    first = published(world)
    done = len(world.engine.calls)
    assert published(world, "other:2") == first
    assert world.made(since=done) == []
    assert names(world).of(first.labels.key) == ["base:latest", "other:2"]


def test_names_that_are_given_at_once_are_all_kept(world: World) -> None:
    layer = world.builder("first").build(plan(BASE))
    with ThreadPoolExecutor(4) as pool:
        for number in range(12):
            pool.submit(names(world).publish, f"n{number}:latest", layer, world.engine, "r", print)
    assert len(names(world).all()) == 12
    assert [path.suffix for path in sorted((world.folder / "cache" / "names").iterdir())] == [".json", ".lock"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99, "names": {"a:1": "k"}}', '{"format": 1}'])
def test_a_file_of_names_that_cannot_be_read_holds_none(world: World, content: str) -> None:
    published(world)
    (path,) = (world.folder / "cache" / "names").glob("*.json")
    assert list(json.loads(path.read_text())["names"]) == ["base:latest"]
    path.write_text(content)
    assert names(world).all() == {}
