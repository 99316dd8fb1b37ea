"""The data of an image builder version."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import pytest_imagebuild
from pytest_imagebuild import ImageBuildError
from pytest_imagebuild.image.builder import Builder

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DATA = Path(pytest_imagebuild.__file__).parent / "builder_versions"
MINIMAL: dict[str, object] = {
    "version": "1",
    "debian_codename": "trixie",
    "python_series": ["3.13"],
    "apt_tools": ["gcc"],
    "pip_tools": ["pip"],
    "uv": {"version": "0.1", "wheels": {"linux/amd64": {"file": "uv.whl", "sha256": "a" * 64}}},
}


def load(version: str) -> Builder:
    return Builder.from_dict(tomllib.loads((DATA / f"{version}.toml").read_text("utf-8")))


def test_version_2026_10_is_trixie_with_python_3_11_to_3_15_and_a_pinned_uv() -> None:
    builder = load("2026.10")
    assert builder.version == "2026.10"
    assert builder.debian_codename == "trixie"
    assert builder.python_series == ("3.11", "3.12", "3.13", "3.14", "3.15")
    assert builder.apt_tools == ("gcc", "gfortran", "build-essential")
    assert builder.pip_tools == ("pip", "wheel", "uv")
    assert builder.micromamba_tag == "2.9.0-debian13-slim"
    assert builder.command == ("sleep", "172800")
    assert builder.uv_version == "0.13.9"
    assert sorted(builder.uv_wheels) == sorted(builder.uv_wheel_files) == ["linux/amd64", "linux/arm64"]
    assert all(f"uv-{builder.uv_version}-" in name for name in builder.uv_wheel_files.values())


@pytest.mark.parametrize("path", sorted(DATA.glob("*.toml")), ids=lambda path: path.stem)
def test_every_data_file_survives_the_round_trip_and_is_named_after_its_version(path: Path) -> None:
    data = tomllib.loads(path.read_text("utf-8"))
    builder = Builder.from_dict(data)
    assert builder.to_dict() == data
    assert Builder.from_dict(builder.to_dict()) == builder
    assert builder.version == path.stem


def test_what_may_be_left_out_is_left_out_again() -> None:
    builder = Builder.from_dict(MINIMAL)
    assert (builder.micromamba_tag, builder.command) == (None, ())
    assert builder.to_dict() == MINIMAL


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"version": 1}, "image builder 1: version must be a non-empty string, got 1"),
        ({"apt_tools": "gcc"}, "image builder 1: apt_tools must be a list of non-empty strings, got 'gcc'"),
        ({"uv": "0.1"}, "image builder 1: uv must be a table, got '0.1'"),
        ({"uv": {"version": "0.1"}}, "image builder 1: uv: wheels is missing"),
        (
            {"uv": {"version": "0.1", "wheels": {"linux/amd64": {"file": "uv.whl", "sha256": "AB"}}}},
            "image builder 1: uv: wheels: linux/amd64: sha256 must be 64 lower-case hexadecimal digits, got 'AB'",
        ),
        ({"pythons": []}, "image builder 1: pythons is not a key of this file"),
    ],
)
def test_a_fault_in_the_data_is_named_with_its_path(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(ImageBuildError) as caught:
        Builder.from_dict({**MINIMAL, **change})
    assert str(caught.value) == sentence
