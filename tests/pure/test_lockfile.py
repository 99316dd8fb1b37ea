"""The lockfile model: its text, its order, its errors, what is kept and what is preferred."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from pytest_imagebuild.errors import LockfileError
from pytest_imagebuild.lockfile import BaseRecord, LayerRecord, Lockfile, Pin

DIGEST = "sha256:" + "a" * 64


def base(reference: str, platform: str = "linux/amd64") -> BaseRecord:
    return BaseRecord(reference=reference, platform=platform, source="registry", digest=DIGEST)


def layer(identity: str, *request: str, tool: str = "pip", platform: str = "linux/amd64", **pins: str) -> LayerRecord:
    packages = tuple(Pin(name=name, version=version, hashes=(DIGEST,)) for name, version in pins.items())
    return LayerRecord(
        id=identity, base="debian:trixie", platform=platform, tool=tool, request=request, packages=packages
    )


FULL = (
    Lockfile()
    .with_base(base("debian:trixie"))
    .with_layer(layer("1" * 64, "six", six="1.17.0"))
    .with_layer(
        LayerRecord(
            id="2" * 64,
            base="debian:trixie",
            platform="linux/amd64",
            tool="apt",
            request=("git", "ca-certificates"),
            packages=(
                Pin(name="git", version="1:2.47.3-0+deb13u1", architecture="amd64", hashes=(DIGEST,)),
                Pin(name="ca-certificates", version="20250419", architecture="all", hashes=(DIGEST,)),
            ),
        )
    )
)
TEXT = f"""\
# Written by pytest-imagebuild. Commit this file; `imagebuild lock` updates it.
version = 1

[[base]]
reference = "debian:trixie"
platform = "linux/amd64"
source = "registry"
digest = "{DIGEST}"

[[layer]]
id = "{"2" * 64}"
base = "debian:trixie"
platform = "linux/amd64"
tool = "apt"
request = [
    "git",
    "ca-certificates",
]

[[layer.package]]
name = "ca-certificates"
version = "20250419"
architecture = "all"
hashes = [
    "{DIGEST}",
]

[[layer.package]]
name = "git"
version = "1:2.47.3-0+deb13u1"
architecture = "amd64"
hashes = [
    "{DIGEST}",
]

[[layer]]
id = "{"1" * 64}"
base = "debian:trixie"
platform = "linux/amd64"
tool = "pip"
request = [
    "six",
]

[[layer.package]]
name = "six"
version = "1.17.0"
hashes = [
    "{DIGEST}",
]
"""


def test_the_text_is_toml_with_one_fact_a_line() -> None:
    assert FULL.dumps() == TEXT


def test_reading_the_text_and_writing_it_gives_the_same_bytes() -> None:
    assert Lockfile.loads(TEXT, "imagebuild.lock").dumps() == TEXT


def test_an_empty_lockfile_has_its_version_only() -> None:
    text = Lockfile().dumps()
    assert text.splitlines()[1:] == ["version = 1"]
    assert Lockfile.loads(text, "imagebuild.lock") == Lockfile()


@pytest.mark.parametrize(
    "pin",
    [
        Pin(name="six", version="1.17.0"),
        Pin(name="six", version="1.17.0", hashes=(DIGEST, "sha256:" + "b" * 64)),
        Pin(name="libc6", version="2.41-12", architecture="amd64", hashes=(DIGEST,)),
        Pin(name="foo", version="", url="git+https://host.example/foo@" + "c" * 40),
        Pin(name="quote\"d'\\", version="ü\n\t"),
    ],
    ids=lambda pin: ascii(pin.name),
)
def test_every_form_of_pin_survives_the_round_trip(pin: Pin) -> None:
    assert Pin.from_dict(pin.to_dict(), "") == pin
    record = LayerRecord(id="1", base="b", platform="p", tool="uv", request=(), packages=(pin,))
    lockfile = Lockfile(layers=(record,))
    assert Lockfile.loads(lockfile.dumps(), "imagebuild.lock") == lockfile


def test_what_is_empty_is_not_written() -> None:
    assert Pin(name="six", version="1").to_dict() == {"name": "six", "version": "1"}


def test_the_order_of_insertion_does_not_show() -> None:
    bases = [base("debian:trixie"), base("debian:trixie", "linux/arm64"), base("alpine:3")]
    layers = [
        layer("2", "six", six="1"),
        layer("1", "six", six="1"),
        layer("3", "attrs"),
        layer("3", "attrs", platform="linux/arm64"),
        layer("4", "git", tool="apt"),
    ]
    texts = set()
    for some_bases, some_layers in zip(
        itertools.cycle(itertools.permutations(bases)), itertools.permutations(layers), strict=False
    ):
        lockfile = Lockfile()
        for one in some_bases:
            lockfile = lockfile.with_base(one)
        for other in some_layers:
            lockfile = lockfile.with_layer(other)
        texts.add(lockfile.dumps())
    assert len(texts) == 1


def test_the_order_of_the_packages_of_a_layer_does_not_show() -> None:
    one, other = layer("1", "x", a="1", b="2"), layer("1", "x", b="2", a="1")
    assert Lockfile(layers=(one,)).dumps() == Lockfile(layers=(other,)).dumps()


def test_a_record_replaces_the_one_of_its_reference_or_id_on_the_same_platform_only() -> None:
    lockfile = Lockfile().with_base(base("a")).with_base(base("a", "linux/arm64"))
    changed = lockfile.with_base(BaseRecord(reference="a", platform="linux/amd64", source="bootstrap", digest="d"))
    assert [record.source for record in changed.bases] == ["bootstrap", "registry"]
    lockfile = Lockfile().with_layer(layer("1", "x")).with_layer(layer("1", "x", platform="linux/arm64"))
    changed = lockfile.with_layer(layer("1", "x", x="2"))
    assert [len(record.packages) for record in changed.layers] == [1, 0]


def test_a_record_is_found_by_its_reference_or_id_and_platform() -> None:
    assert FULL.base("debian:trixie", "linux/amd64") == base("debian:trixie")
    assert FULL.base("debian:trixie", "linux/arm64") is None
    assert FULL.layer("1" * 64, "linux/amd64") is not None
    assert FULL.layer("1" * 64, "linux/arm64") is None
    assert FULL.layer("3" * 64, "linux/amd64") is None


def test_without_drops_what_the_other_holds() -> None:
    assert FULL.without(Lockfile(layers=FULL.layers)) == Lockfile(bases=FULL.bases)
    assert FULL.without(Lockfile(bases=FULL.bases, layers=FULL.layers[:1])) == Lockfile(layers=FULL.layers[1:])
    assert FULL.without(Lockfile()) == FULL


# errors -------------------------------------------------------------------------------------------------------------

RESTORE = "Restore it from version control, or delete it to resolve everything anew."
LAYER = "version = 1\n[[layer]]\nid = '1'\nbase = 'b'\nplatform = 'p'\ntool = 't'\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "version is None, not a whole number"),
        ('version = "1"', "version is '1', not a whole number"),
        ("version = true", "version is True, not a whole number"),
        ("version = 1.0", "version is 1.0, not a whole number"),
        ("version = 1\nbase = 3", "base is not an array of tables"),
        ("version = 1\nlayer = [1]", "layer is not an array of tables"),
        ("version = 1\n[[base]]\nplatform = 'p'", "base[0].reference is missing"),
        (
            "version = 1\n[[base]]\nreference = 'r'\nplatform = 'p'\nsource = 's'\ndigest = 7",
            "base[0].digest is 7, not a string",
        ),
        ("version = 1\n[[layer]]\n", "layer[0].id is missing"),
        (
            f"{LAYER}request = ['x', 1]",
            "layer[0].request is not an array of strings",
        ),
        (
            f"{LAYER}package = 'six'",
            "layer[0].package is not an array of tables",
        ),
        (
            f"{LAYER}[[layer.package]]\nname = 'a'\n[[layer.package]]\nname = 'b'\nhashes = 'c'",
            "layer[0].package[1].hashes is not an array of strings",
        ),
        (
            f"{LAYER}[[layer.package]]\nversion='1'",
            "layer[0].package[0].name is missing",
        ),
    ],
)
def test_a_fault_is_named_with_its_path_and_what_to_do(text: str, fault: str) -> None:
    with pytest.raises(LockfileError) as caught:
        Lockfile.loads(text, "imagebuild.lock")
    assert str(caught.value) == f"imagebuild.lock cannot be read: {fault}. {RESTORE}"


@pytest.mark.parametrize("text", ["<<<<<<< HEAD\nversion = 1", "version = 1\nversion = 1", "version = "])
def test_text_that_is_no_toml_is_said_to_be_unreadable_with_the_place(text: str) -> None:
    with pytest.raises(LockfileError) as caught:
        Lockfile.loads(text, "imagebuild.lock")
    message = str(caught.value)
    assert message.startswith("imagebuild.lock cannot be read: ")
    assert "(at " in message
    assert message.endswith(RESTORE)


def test_a_newer_major_version_asks_for_a_newer_plugin() -> None:
    with pytest.raises(LockfileError) as caught:
        Lockfile.loads("version = 2\nanything = 'goes'", "imagebuild.lock")
    assert str(caught.value) == (
        "imagebuild.lock has version 2; this pytest-imagebuild reads versions up to 1. Upgrade pytest-imagebuild."
    )


def test_keys_that_a_later_minor_version_added_are_skipped() -> None:
    text = TEXT.replace("version = 1\n", 'version = 1\nnote = "x"\n', 1)
    assert Lockfile.loads(text, "imagebuild.lock").bases == FULL.bases


# preferences --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recorded", "wanted", "related"),
    [
        (("six",), ("six",), True),
        (("six",), ("attrs", "six"), True),
        (("attrs", "six"), ("six",), True),
        (("kept",), ("kept<2",), True),
        (("numpy<2", "six"), ("numpy", "six"), True),
        (("six",), ("Kept[extra]>=1",), True),
        (("six",), ("attrs",), False),
        ((), ("six",), False),
        (("six",), (), False),
    ],
)
def test_a_record_is_preferred_if_it_has_a_request_in_common_or_pins_what_is_asked_for(
    recorded: tuple[str, ...], wanted: tuple[str, ...], related: bool
) -> None:
    lockfile = Lockfile().with_layer(layer("1", *recorded, kept="1.0"))
    pins = lockfile.preferences(layer("2", *wanted))
    assert [pin.name for pin in pins] == (["kept"] if related else [])


def test_a_record_that_another_image_still_uses_is_not_preferred_but_its_own_is() -> None:
    lockfile = Lockfile().with_layer(layer("1", "six", kept="1.0"))
    assert lockfile.preferences(layer("2", "six"), in_use=frozenset({"1", "2"})) == ()
    assert [pin.name for pin in lockfile.preferences(layer("1", "six"), in_use=frozenset({"1"}))] == ["kept"]


def test_the_record_that_shares_most_is_preferred() -> None:
    lockfile = (
        Lockfile().with_layer(layer("1", "a", one="1")).with_layer(layer("2", "a", "b", two="1")).with_layer(layer("3"))
    )
    assert [pin.name for pin in lockfile.preferences(layer("4", "a", "b", "c"))] == ["two"]


@pytest.mark.parametrize(
    "other",
    [
        lambda record: {**record, "tool": "uv"},
        lambda record: {**record, "base": "debian:bookworm"},
        lambda record: {**record, "platform": "linux/arm64"},
    ],
    ids=["tool", "base", "platform"],
)
def test_a_record_of_another_tool_base_or_platform_is_not_preferred(
    other: Callable[[dict[str, object]], dict[str, object]],
) -> None:
    changed = LayerRecord.from_dict(other(layer("1", "six", six="1").to_dict()), "")
    assert Lockfile().with_layer(changed).preferences(layer("2", "six")) == ()
