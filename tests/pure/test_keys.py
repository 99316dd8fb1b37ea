"""Layer keys: golden values, what changes them, what does not."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from doubles import BASE, BUILDER, plan

from pytest_imagebuild import Image
from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.layers import BasePin
from pytest_imagebuild.errors import UnknownVersionError
from pytest_imagebuild.lockfile import Pin
from pytest_imagebuild.plan.builders import available, choose, load
from pytest_imagebuild.plan.keys import MISS_WORDS, KeyInputs, contents_digest, pins_digest
from pytest_imagebuild.plan.plan import Plan, plan_image

INPUTS = KeyInputs(
    builder="2026.10",
    platform="linux/amd64",
    parent="a" * 64,
    generation="",
    step="b" * 64,
    contents="",
    pins="c" * 64,
)


def keys(plan: Plan, *, pins: tuple[Pin, ...] = ()) -> list[str]:
    """Return the keys of a plan's layers, each install with the same pins."""
    return keys_with(plan, base="sha256:0", pins=itertools.repeat(pins))


def keys_with(plan: Plan, *, base: str, pins: Iterable[tuple[Pin, ...]]) -> list[str]:
    """Return the keys of a plan's layers, from the bottom up; each has its pins, of which only installs take theirs."""
    found: list[str] = []
    for layer, own in zip(plan.layers, pins, strict=False):
        pinned = BasePin(digest=base, source="registry") if layer.base else own if layer.install else None
        inputs = layer.inputs(
            builder=plan.builder.version,
            platform="linux/amd64",
            parent=found[-1] if found else "",
            generation="",
            pins=pinned,
        )
        found.append(inputs.key)
    return found


# golden values: a change here rebuilds every cached layer of every user --------------------------------------------


def test_the_key_of_known_inputs_never_changes() -> None:
    assert INPUTS.key == "27a7b93ebae34dcc602e38a53f74e26509ab245385c4a3499d362244c8956399"


def test_the_digests_of_known_pins_and_contents_never_change() -> None:
    base = BasePin(digest="sha256:" + "d" * 64, source="registry")
    assert pins_digest(base) == "76763ff32af1ad80bdd257fcfdc70cfe57d9757c2cef1d34ebee10e846046474"
    pins = [Pin(name="six", version="1.17.0", hashes=("sha256:e",))]
    assert pins_digest(pins) == "2dc2bfe8cc39c3177441dbfcc58cf17d1b17de7f9075e315e10e7bce0542c293"
    files = [FileEntry(path="/a", mode=0o644, sha256="f" * 64)]
    assert contents_digest(files) == "ba717820896da059e462d1e0d6512cc69ea98bd30761ef70a4c86574da3efb96"


GOLDEN: dict[str, tuple[Image, list[tuple[str, str]]]] = {
    "a base": (
        BASE,
        [
            ("fbc84030b1f064ef", "47b5bf9143d90e36"),
        ],
    ),
    "debian_slim": (
        Image.debian_slim("3.13"),
        [
            ("26390610841a4319", "ac25fbcb018910f2"),
            ("945217fbbf83858b", "fe52b4247cdc26ef"),
            ("a142f6f5d9d8ff86", "f8c42b54ec2b941a"),
            ("0fd2aa5647edabe2", "b44b9d264b366daf"),
        ],
    ),
    "installs": (
        BASE.apt_install("git").pip_install("six", "attrs==25.4.0").uv_pip_install("numpy"),
        [
            ("fbc84030b1f064ef", "47b5bf9143d90e36"),
            ("9167a6d26e6d3f52", "d231e06c8f0cd77d"),
            ("f4d95cef969a24fc", "bc4b89aba062d57b"),
            ("aa8a31d60efa197d", "43fb141b9e2263cc"),
        ],
    ),
    "commands": (
        BASE.env({"A": "1"}).workdir("/app").run_commands("true", env={"B": "2"}),
        [
            ("fbc84030b1f064ef", "47b5bf9143d90e36"),
            ("a857c85a696de47d", "cccdd5eb717ba3dc"),
            ("a188cd6fa13a15d2", "b92d2a32ac691fbc"),
            ("580e532ced5d2fab", "57df80bcfb5489c5"),
        ],
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_definitions_of_known_chains_never_change(name: str) -> None:
    image, golden = GOLDEN[name]
    assert [(layer.step[:16], layer.definition[:16]) for layer in plan(image).layers] == golden


# what enters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(KeyInputs)])
def test_every_input_changes_the_key(name: str) -> None:
    assert dataclasses.replace(INPUTS, **{name: "other"}).key != INPUTS.key


def test_inputs_cannot_run_into_each_other() -> None:
    names = [field.name for field in dataclasses.fields(KeyInputs)]
    empty = dict.fromkeys(names, "")
    found = {KeyInputs(**{**empty, name: "x"}).key for name in names}
    assert len(found) == len(names)


def test_every_input_has_words_for_a_user() -> None:
    assert set(MISS_WORDS) == set(INPUTS.to_dict())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (BASE, Image.from_registry("debian:bookworm")),
        (BASE.run_commands("a"), BASE.run_commands("b")),
        (BASE.run_commands("a", "b"), BASE.run_commands("a b")),
        (BASE.run_commands("a", "b"), BASE.run_commands("b", "a")),
        (BASE.run_commands("a"), BASE.run_commands("a", env={"A": "1"})),
        (BASE.env({"A": "1"}), BASE.env({"A": "2"})),
        (BASE.workdir("/a"), BASE.workdir("/b")),
        (BASE.pip_install("a"), BASE.uv_pip_install("a")),
        (BASE.pip_install("a"), BASE.apt_install("a")),
        (BASE.pip_install("a"), BASE.pip_install("a", pre=True)),
        (BASE.pip_install("a"), BASE.pip_install("a", index_url="https://host.example/simple")),
        (BASE.pip_install("a"), BASE.pip_install("a", extra_options="--no-binary :all:")),
        (BASE.apt_install("a", "b"), BASE.apt_install("b", "a")),
        (BASE.uv_pip_install("a"), BASE.uv_pip_install("a", uv_version="0.1.0")),
    ],
)
def test_another_argument_gives_another_definition_and_key(one: Image, other: Image) -> None:
    assert plan(one).layers[-1].definition != plan(other).layers[-1].definition
    assert keys(plan(one))[-1] != keys(plan(other))[-1]


def test_pins_change_the_key_of_their_layer_and_of_those_above_but_no_definition() -> None:
    image = plan(BASE.run_commands("a").pip_install("six").run_commands("b"))
    one = keys(image, pins=(Pin(name="six", version="1"),))
    other = keys(image, pins=(Pin(name="six", version="2"),))
    assert [left == right for left, right in zip(one, other, strict=True)] == [True, True, False, False]


@pytest.mark.parametrize(
    "other",
    [
        Pin(name="six", version="2"),
        Pin(name="seven", version="1"),
        Pin(name="six", version="1", architecture="amd64"),
        Pin(name="six", version="1", url="https://host.example/six.whl"),
        Pin(name="six", version="1", hashes=("sha256:1",)),
    ],
)
def test_every_part_of_a_pin_counts(other: Pin) -> None:
    assert pins_digest([Pin(name="six", version="1")]) != pins_digest([other])


def test_the_order_of_pins_and_files_does_not_count() -> None:
    pins = [Pin(name="b", version="1"), Pin(name="a", version="2"), Pin(name="a", version="2", architecture="i386")]
    assert len({pins_digest(order) for order in itertools.permutations(pins)}) == 1
    files = [FileEntry(path=path, mode=0o644, sha256="0") for path in ("/a", "/b", "/c")]
    assert len({contents_digest(order) for order in itertools.permutations(files)}) == 1


def test_nothing_pinned_differs_from_nothing_to_pin() -> None:
    assert pins_digest(None) == ""
    assert pins_digest(()) != ""
    assert contents_digest(()) == ""


def test_the_builder_version_counts() -> None:
    other = plan_image(BASE, dataclasses.replace(BUILDER, version="2027.04"))
    assert keys(other) != keys(plan(BASE))


# what does not enter ------------------------------------------------------------------------------------------------


def test_the_line_of_a_call_does_not_count() -> None:
    one = BASE.run_commands("a").pip_install("six")
    other = BASE.run_commands("a").pip_install("six")
    assert one.steps[-1].where != other.steps[-1].where
    assert keys(plan(one)) == keys(plan(other))


def test_force_does_not_count() -> None:
    assert keys(plan(BASE.run_commands("a"))) == keys(plan(BASE.run_commands("a", force_build=True)))


def test_the_order_of_packages_counts_for_no_python_installer() -> None:
    assert keys(plan(BASE.pip_install("a", "b"))) == keys(plan(BASE.pip_install("b", "a")))
    assert keys(plan(BASE.uv_pip_install("a", "b"))) == keys(plan(BASE.uv_pip_install("b", "a")))


# local files --------------------------------------------------------------------------------------------------------

Add = Callable[[Path], Image]
ADDS: dict[str, Add] = {
    "file": lambda folder: BASE.add_local_file(folder / "pkg" / "a.py", "/x/a.py", copy=True),
    "dir": lambda folder: BASE.add_local_dir(folder / "pkg", "/x", copy=True),
    "requirements": lambda folder: BASE.uv_pip_install(requirements=[str(folder / "pkg" / "a.py")]),
}


def source_folder(parent: Path, name: str, content: str = "A = 1\n", mode: int = 0o644) -> Path:
    file = parent / name / "pkg" / "a.py"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    file.chmod(mode)
    return parent / name


@pytest.mark.parametrize("add", ADDS.values(), ids=ADDS)
def test_where_local_files_lie_on_this_machine_does_not_count(add: Add, tmp_path: Path) -> None:
    one, other = plan(add(source_folder(tmp_path, "one"))), plan(add(source_folder(tmp_path, "a/b/other")))
    assert keys(one) == keys(other)
    assert one.layers[-1].definition == other.layers[-1].definition


@pytest.mark.parametrize("add", ADDS.values(), ids=ADDS)
def test_the_times_of_local_files_do_not_count(add: Add, tmp_path: Path) -> None:
    folder = source_folder(tmp_path, "one")
    before = keys(plan(add(folder)))
    os.utime(folder / "pkg" / "a.py", (1, 1))
    assert keys(plan(add(folder))) == before


@pytest.mark.parametrize("add", ADDS.values(), ids=ADDS)
def test_the_content_of_local_files_counts(add: Add, tmp_path: Path) -> None:
    one = keys(plan(add(source_folder(tmp_path, "one"))))
    other = keys(plan(add(source_folder(tmp_path, "two", "A = 2\n"))))
    assert one[0] == other[0]
    assert one[1] != other[1]


@pytest.mark.parametrize("name", ["file", "dir"])
def test_the_mode_of_a_copied_file_counts(name: str, tmp_path: Path) -> None:
    add = ADDS[name]
    plain, executable = source_folder(tmp_path, "one"), source_folder(tmp_path, "two", mode=0o755)
    assert keys(plan(add(plain))) != keys(plan(add(executable)))


def test_the_mode_of_a_requirements_file_does_not_count(tmp_path: Path) -> None:
    add = ADDS["requirements"]
    one, other = source_folder(tmp_path, "one"), source_folder(tmp_path, "two", mode=0o664)
    assert keys(plan(add(one))) == keys(plan(add(other)))


def test_the_name_of_a_copied_file_counts(tmp_path: Path) -> None:
    folder = source_folder(tmp_path, "one")
    before = keys(plan(ADDS["dir"](folder)))
    (folder / "pkg" / "a.py").rename(folder / "pkg" / "b.py")
    assert keys(plan(ADDS["dir"](folder))) != before


def test_the_content_of_a_copied_file_is_in_no_definition_and_that_of_a_requirements_file_is(tmp_path: Path) -> None:
    one, other = source_folder(tmp_path, "one"), source_folder(tmp_path, "two", "A = 2\n")
    for name, same in (("file", True), ("dir", True), ("requirements", False)):
        left, right = (plan(ADDS[name](folder)).layers[-1].definition for folder in (one, other))
        assert (left == right) is same


def test_the_place_of_a_copied_file_in_the_image_counts(tmp_path: Path) -> None:
    file = source_folder(tmp_path, "one") / "pkg" / "a.py"
    one, other = BASE.add_local_file(file, "/x", copy=True), BASE.add_local_file(file, "/y", copy=True)
    assert keys(plan(one)) != keys(plan(other))
    assert plan(one).layers[-1].definition != plan(other).layers[-1].definition


def test_lazy_local_files_make_no_layer_and_change_no_key(tmp_path: Path) -> None:
    assert keys(plan(BASE.add_local_dir(tmp_path, "/x"))) == keys(plan(BASE))


# steps in between ---------------------------------------------------------------------------------------------------

STEPS: list[Callable[[Image], Image]] = [
    lambda image: image.apt_install("git"),
    lambda image: image.env({"A": "1"}),
    lambda image: image.pip_install("six"),
    lambda image: image.run_commands("a", "b"),
    lambda image: image.workdir("/app"),
    lambda image: image.uv_pip_install("numpy"),
]


def chain(steps: list[Callable[[Image], Image]]) -> Image:
    image = BASE
    for step in steps:
        image = step(image)
    return image


@pytest.mark.parametrize("place", range(len(STEPS) + 1))
def test_a_step_that_is_put_in_between_changes_the_keys_at_and_above_it_alone(place: int) -> None:
    before = keys(plan(chain(STEPS)))
    after = keys(plan(chain([*STEPS[:place], lambda image: image.run_commands("new"), *STEPS[place:]])))
    below = place + 1
    assert after[:below] == before[:below]
    assert set(after[below:]).isdisjoint(before)


@pytest.mark.parametrize("place", range(len(STEPS)))
def test_a_step_that_is_taken_out_changes_the_keys_above_it_alone(place: int) -> None:
    before = keys(plan(chain(STEPS)))
    after = keys(plan(chain([*STEPS[:place], *STEPS[place + 1 :]])))
    assert after[: place + 1] == before[: place + 1]
    assert set(after[place + 1 :]).isdisjoint(before)


def test_the_same_step_twice_makes_two_layers() -> None:
    once, twice = keys(plan(BASE.run_commands("a"))), keys(plan(BASE.run_commands("a").run_commands("a")))
    assert twice[:2] == once
    assert len(set(twice)) == 3


def test_every_layer_of_debian_slim_has_a_key_and_a_definition_of_its_own() -> None:
    layers = plan(Image.debian_slim("3.13")).layers
    assert len({layer.definition for layer in layers}) == len(layers) == 4
    assert len(set(keys(plan(Image.debian_slim("3.13"))))) == 4
    assert {layer.root for layer in layers} == {"python:3.13-slim-trixie"}


# builder versions ---------------------------------------------------------------------------------------------------


def test_the_variable_beats_the_ini_key_and_the_newest_is_the_default() -> None:
    newest = available()[-1]
    assert choose({}, "").version == newest
    assert choose({"MODAL_IMAGE_BUILDER_VERSION": ""}, "").version == newest
    assert choose({"MODAL_IMAGE_BUILDER_VERSION": "2026.10"}, "1999.01").version == "2026.10"
    assert choose({}, "2026.10") is load("2026.10")


@pytest.mark.parametrize("name", ["1999.01", "../2026.10", "2026.1"])
def test_an_unknown_version_is_told_with_those_that_are_known(name: str) -> None:
    with pytest.raises(UnknownVersionError) as caught:
        choose({"MODAL_IMAGE_BUILDER_VERSION": name}, "")
    assert str(caught.value) == (
        f"Unknown image builder version {name!r}. Known versions: {', '.join(available())}. Set "
        "MODAL_IMAGE_BUILDER_VERSION or the ini key image_builder_version to one of them."
    )
