"""What holds for any chain and any lockfile."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from doubles import BASE, plan
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from test_keys import keys, keys_with

from pytest_imagebuild import Image
from pytest_imagebuild.errors import LockfileError
from pytest_imagebuild.image.canonical import digest
from pytest_imagebuild.lockfile import BaseRecord, LayerRecord, Lockfile, Pin

ALIKE = settings(deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
"""The same examples in every run, and no time spent on making one that fails smaller."""

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAME = st.from_regex(r"[a-z][a-z0-9]{0,6}", fullmatch=True)
VALUE = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=12)

Step = tuple[str, Any]
"""A call in a chain, and its arguments."""

STEPS: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("run_commands"), st.lists(VALUE.filter(str.strip), min_size=1, max_size=3)),
    st.tuples(st.just("apt_install"), st.lists(NAME, min_size=1, max_size=3, unique=True)),
    st.tuples(st.just("pip_install"), st.lists(NAME, min_size=1, max_size=3, unique=True)),
    st.tuples(st.just("uv_pip_install"), st.lists(NAME, min_size=1, max_size=3, unique=True)),
    st.tuples(st.just("env"), st.dictionaries(NAME.map(str.upper), VALUE, min_size=1, max_size=3)),
    st.tuples(st.just("workdir"), NAME.map("/srv/{}".format)),
)
INSTALLS = STEPS.filter(lambda step: "install" in step[0])
FORCED = ("run_commands", "apt_install", "pip_install", "uv_pip_install")
PINS = st.builds(
    Pin, name=VALUE, version=TEXT, architecture=TEXT, url=TEXT, hashes=st.lists(TEXT, max_size=2).map(tuple)
)
PYTHON_INSTALLS = ("pip_install", "uv_pip_install")
CHAINS = st.lists(STEPS, min_size=1, max_size=5)


def chain(steps: list[Step], image: Image = BASE) -> Image:
    for name, arguments in steps:
        call: Callable[..., Image] = getattr(image, name)
        image = call(*arguments) if isinstance(arguments, list) else call(arguments)
    return image


def alike(one: Step, other: Step) -> bool:
    """Tell whether two calls ask for the same: the order of Python packages says nothing."""
    if one[0] != other[0]:
        return False
    if one[0] == "env":
        return list(one[1].items()) == list(other[1].items())
    return sorted(one[1]) == sorted(other[1]) if one[0] in PYTHON_INSTALLS else bool(one[1] == other[1])


@settings(ALIKE, max_examples=60)
@given(CHAINS)
def test_the_same_chain_has_the_same_keys(steps: list[Step]) -> None:
    assert keys(plan(chain(steps))) == keys(plan(chain(steps)))


@settings(ALIKE, max_examples=150)
@given(CHAINS, st.data())
def test_a_change_of_a_step_changes_its_key_and_those_above_and_no_other(
    steps: list[Step], data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, len(steps) - 1))
    other = data.draw(STEPS)
    assume(not alike(steps[number], other))
    # A step may be more than one layer, so places are counted in layers.
    below = len(plan(chain(steps[:number])).layers)
    before = keys(plan(chain(steps)))
    after = keys(plan(chain([*steps[:number], other, *steps[number + 1 :]])))
    assert before[:below] == after[:below]
    assert not set(before[below:]) & set(after[below:])


@settings(ALIKE, max_examples=60)
@given(CHAINS, st.randoms(use_true_random=False))
def test_the_order_of_python_packages_changes_no_key(steps: list[Step], chance: random.Random) -> None:
    mixed = [(name, chance.sample(of, len(of)) if name in PYTHON_INSTALLS else of) for name, of in steps]
    assert keys(plan(chain(steps))) == keys(plan(chain(mixed)))


def keys_of_pins(steps: list[Step], base: str, pins: list[tuple[Pin, ...]]) -> list[str]:
    return keys_with(plan(chain(steps)), base=base, pins=pins)


@settings(ALIKE, max_examples=100)
@given(st.lists(INSTALLS, min_size=1, max_size=3), CHAINS, st.data())
def test_a_change_of_a_pin_changes_the_key_of_its_layer_and_those_above_and_no_other(
    installs: list[Step], others: list[Step], data: st.DataObject
) -> None:
    steps = data.draw(st.permutations([*installs, *others]))
    layers = plan(chain(steps)).layers
    pins = [data.draw(st.lists(PINS, max_size=2, unique_by=lambda pin: pin.name).map(tuple)) for _ in layers]
    before = keys_of_pins(steps, "sha256:0", pins)

    place = data.draw(st.sampled_from([number for number, layer in enumerate(layers) if layer.install]))
    kept = pins[place]
    pins[place] = data.draw(st.lists(PINS, max_size=2, unique_by=lambda pin: pin.name).map(tuple))
    after = keys_of_pins(steps, "sha256:0", pins)
    if sorted(map(repr, kept)) == sorted(map(repr, pins[place])):
        assert after == before
    else:
        assert after[:place] == before[:place]
        assert not set(after[place:]) & set(before[place:])

    pins[place] = kept[::-1]
    assert keys_of_pins(steps, "sha256:0", pins) == before, "the order of pins says nothing"
    assert not set(keys_of_pins(steps, "sha256:1", pins)) & set(before)


@settings(ALIKE, max_examples=60)
@given(CHAINS, CHAINS, st.binary(max_size=20), st.binary(max_size=20), st.sampled_from([0o644, 0o755]))
def test_a_change_of_a_copied_file_changes_its_key_and_those_above_and_no_other(
    below: list[Step], above: list[Step], one: bytes, other: bytes, mode: int
) -> None:
    def found(content: bytes, mode: int) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "file")
            file.write_bytes(content)
            file.chmod(mode)
            return keys(plan(chain(above, chain(below).add_local_file(file, "/file", copy=True))))

    place = len(plan(chain(below)).layers)
    before, after = found(one, 0o644), found(other, mode)
    assert after[:place] == before[:place]
    if (one, 0o644) == (other, mode):
        assert after == before
    else:
        assert not set(after[place:]) & set(before[place:])


@settings(ALIKE, max_examples=60)
@given(CHAINS, st.data())
def test_where_a_call_stands_and_force_change_no_key(steps: list[Step], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(steps) - 1))
    name, arguments = steps[place]
    assume(name in FORCED)
    call = getattr(chain(steps[:place]), name)
    forced = chain(steps[place + 1 :], call(*arguments, force_build=True))
    assert keys(plan(forced)) == keys(plan(chain(steps)))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(TEXT, inner, max_size=3),
)


@settings(ALIKE, max_examples=300)
@given(VALUES, VALUES)
def test_values_have_one_digest_if_and_only_if_they_are_equal(one: Any, other: Any) -> None:
    # Python takes True for 1.
    assert (digest(one) == digest(other)) == (repr(_sorted(one)) == repr(_sorted(other)))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return tuple(map(_sorted, value)) if isinstance(value, tuple) else value


BASES = st.builds(BaseRecord, reference=TEXT, platform=TEXT, source=TEXT, digest=TEXT)
LAYERS = st.builds(
    LayerRecord,
    id=TEXT,
    base=TEXT,
    platform=TEXT,
    tool=st.sampled_from(["pip", "apt", "micromamba"]),
    request=st.lists(TEXT, max_size=3).map(tuple),
    packages=st.lists(PINS, max_size=3).map(tuple),
)


def lockfile(bases: list[BaseRecord], layers: list[LayerRecord]) -> Lockfile:
    found = Lockfile()
    for base in bases:
        found = found.with_base(base)
    for layer in layers:
        found = found.with_layer(layer)
    return found


@settings(ALIKE, max_examples=150)
@given(st.lists(BASES, max_size=3), st.lists(LAYERS, max_size=3))
def test_a_lockfile_is_read_as_it_was_written(bases: list[BaseRecord], layers: list[LayerRecord]) -> None:
    written = lockfile(bases, layers)
    read = Lockfile.loads(written.dumps(), "imagebuild.lock")
    assert read.bases == written.bases
    assert [record.to_dict() for record in read.layers] == [record.to_dict() for record in written.layers]
    assert read.dumps() == written.dumps()


@settings(ALIKE, max_examples=100)
@given(
    st.lists(BASES, max_size=4, unique_by=lambda base: (base.reference, base.platform)),
    st.lists(LAYERS, max_size=4, unique_by=lambda layer: (layer.id, layer.platform)),
    st.randoms(use_true_random=False),
)
def test_the_order_of_records_comes_of_themselves(
    bases: list[BaseRecord], layers: list[LayerRecord], chance: random.Random
) -> None:
    mixed = lockfile(chance.sample(bases, len(bases)), chance.sample(layers, len(layers)))
    assert mixed.dumps() == lockfile(bases, layers).dumps()


@settings(ALIKE, max_examples=300)
@given(st.text(max_size=60) | st.sampled_from(['version = 1\n[[base]]\nreference = "a"\n', "version = 2", "[[layer]]"]))
def test_a_text_is_a_lockfile_or_refused(text: str) -> None:
    try:
        read = Lockfile.loads(text, "imagebuild.lock")
    except LockfileError:
        return
    assert isinstance(read, Lockfile)
