"""The canonical encoder: same value, same bytes, for ever."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType

import pytest

from pytest_imagebuild import FilePatternMatcher, Image, SourceLocation
from pytest_imagebuild.image.canonical import INLINE, digest, encode
from pytest_imagebuild.image.sources import LocalDir
from pytest_imagebuild.image.steps.apt import AptInstall
from pytest_imagebuild.image.steps.pip import PipInstall


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    name: str
    count: int = 0
    comment: str = field(default="", compare=False)
    shown: str = field(default="", metadata={"presentation": True})


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    title: str
    sample: Sample = field(default=Sample(name=""), metadata=INLINE)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, b"null"),
        (True, b"true"),
        (1, b"1"),
        ("é\n\ud800", rb'"\u00e9\n\ud800"'),
        ((), b"[]"),
        (("a", ("b",)), b'["a",["b"]]'),
        ({"b": 1, "a": ()}, b'{"map":{"a":[],"b":1}}'),
        (MappingProxyType({"a": 1}), b'{"map":{"a":1}}'),
        (Sample(name="x", count=2), b'{"type":"Sample","with":{"count":2,"name":"x"}}'),
        (Holder(title="t"), b'{"type":"Holder","with":{"title":"t"}}'),
        (
            Holder(title="t", sample=Sample(name="x", count=2)),
            b'{"type":"Holder","with":{"count":2,"name":"x","title":"t"}}',
        ),
        (AptInstall(packages=("git",)), b'{"type":"AptInstall","with":{"packages":["git"]}}'),
    ],
)
def test_each_kind_of_value_has_one_written_form(value: object, text: bytes) -> None:
    assert encode(value) == text


@pytest.mark.parametrize("value", [1.5, b"x", ["a"], {"a"}, {1: "a"}, object(), len, Sample])
def test_a_value_without_a_canonical_form_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match=r"canonical form"):
        encode(value)


def test_presentation_stays_outside() -> None:
    plain, decorated = Sample(name="x"), Sample(name="x", comment="why", shown="here")
    assert encode(plain) == encode(decorated)


def test_a_field_at_its_default_is_left_out_so_that_a_new_field_changes_no_key() -> None:
    assert encode(Sample(name="x", count=0)) == b'{"type":"Sample","with":{"name":"x"}}'
    assert encode(Sample(name="x", count=False)) != encode(Sample(name="x", count=0))


def test_values_that_differ_have_different_bytes() -> None:
    values = [
        None,
        "",
        "null",
        0,
        False,
        (),
        ((),),
        {},
        {"type": "Sample", "with": {"name": "x"}},
        Sample(name="x"),
        ("a", "b"),
        ("a,b",),
        AptInstall(packages=("a",)),
        PipInstall(packages=("a",)),
    ]
    assert len({encode(value) for value in values}) == len(values)


def test_a_callable_in_ignore_is_a_constant_and_patterns_are_not() -> None:
    def local_dir(ignore: object) -> LocalDir:
        return LocalDir(local_path="a", remote_path="/a", ignore=ignore)  # type: ignore[arg-type]

    assert encode(local_dir(lambda path: True)) == encode(local_dir(lambda path: False))
    assert encode(local_dir(FilePatternMatcher("a"))) == (
        b'{"type":"LocalDir","with":{"ignore":{"type":"FilePatternMatcher","with":{"file":null,"inverted":false,'
        b'"patterns":["a"]}},"local_path":"a","remote_path":"/a"}}'
    )
    different = [FilePatternMatcher("b"), ~FilePatternMatcher("a"), FilePatternMatcher.from_file("a"), bool]
    assert len({encode(local_dir(ignore)) for ignore in different}) == len(different)


def test_the_digest_is_the_sha256_of_the_bytes() -> None:
    assert digest("") == "12ae32cb1ec02d01eda3581b127c1fee3b0dc53572ed6baf239721a03d82e126"
    location = SourceLocation(file="a.py", line=1)
    assert digest(location) == digest(SourceLocation(file="a.py", line=1)) != digest(("a.py", 1))


GOLDEN = [
    (Image.debian_slim, "20188478493f8cba88488fa8000d9b99f9ad90f8cc3e806810b9abf8b0953221"),
    (
        lambda: Image.debian_slim("3.13").apt_install("git", "curl"),
        "d14a389f641c3a6c34af1add5959c874bdd4f7a75dfa2541f9bf7feb8a12da06",
    ),
    (
        lambda: Image.from_registry("debian:trixie", force_build=True).run_commands("true", env={"A": "1"}),
        "52c66723628befcefab6f7e4399eea04955b10ce549a619b79aa40837d581cba",
    ),
    (
        lambda: (
            Image.debian_slim("3.12")
            .pip_install("b", "a", index_url="https://example.org/simple", pre=True)
            .uv_pip_install("numpy", requirements=["r.txt"])
            .env({"A": "1"})
            .workdir("/w")
            .add_local_file("a.txt", "/data/", copy=True)
            .add_local_dir("src", "/src", ignore=["*.pyc"])
            .add_local_python_source("pkg")
        ),
        "d575a9d09b36ac7d02385e0a22155211081ef0babda7adf7768556b8c5fa556f",
    ),
]


@pytest.mark.parametrize(("make", "expected"), GOLDEN)
def test_the_definition_of_a_known_chain_never_changes(make: object, expected: str) -> None:
    assert callable(make)
    assert make().definition == expected
