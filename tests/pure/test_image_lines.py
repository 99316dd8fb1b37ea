"""The emitted commands of every step on builder version 2026.10, and the layers that they belong to."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import pytest_imagebuild
from pytest_imagebuild import DefinitionError, Image
from pytest_imagebuild.image import (
    AptInstall,
    Builder,
    CopyLocal,
    Instruction,
    LayerSpec,
    LocalFile,
    PipInstall,
    Run,
    SetCommand,
    SetEnv,
    SetWorkdir,
    UvPipInstall,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DATA = Path(pytest_imagebuild.__file__).parent / "builder_versions"
BUILDER = Builder.from_dict(tomllib.loads((DATA / "2026.10.toml").read_text("utf-8")))
BASE = Image.from_registry("debian:trixie")
DEBCONF = "echo 'debconf debconf/frontend select Noninteractive' | debconf-set-selections"
UV = "COPY --from=ghcr.io/astral-sh/uv:0.13.9 /uv /.uv/uv"
UV_RUN = "RUN /.uv/uv pip install --python $(command -v python) --compile-bytecode"


def last_lines(image: Image) -> list[str]:
    """Give the lines of the last step."""
    return list(image.steps[-1].lines(BUILDER, "3.12"))


def last_layers(image: Image) -> tuple[LayerSpec, ...]:
    return image.steps[-1].layers(BUILDER, "3.12")


def slim_lines(version: str) -> list[str]:
    return [
        f"FROM python:{version}-slim-trixie",
        "RUN apt-get update",
        "RUN apt-get install -y gcc gfortran build-essential",
        "RUN pip install --upgrade pip wheel uv",
        f"RUN {DEBCONF}",
        'CMD ["sleep", "172800"]',
    ]


@pytest.mark.parametrize("version", ["3.11", "3.13", "3.15", "3.13.2", "3.15.0rc1"])
def test_debian_slim_passes_its_version_through(version: str) -> None:
    assert last_lines(Image.debian_slim(version)) == slim_lines(version)


def test_debian_slim_without_a_version_takes_the_local_series() -> None:
    assert last_lines(Image.debian_slim()) == slim_lines("3.12")


def test_debian_slim_is_four_layers() -> None:
    assert last_layers(Image.debian_slim("3.13")) == (
        LayerSpec(base="python:3.13-slim-trixie"),
        LayerSpec(instructions=(AptInstall(packages=("gcc", "gfortran", "build-essential")),)),
        LayerSpec(instructions=(PipInstall(packages=("pip", "wheel", "uv"), upgrade=True, executable="pip"),)),
        LayerSpec(instructions=(Run(command=DEBCONF), SetCommand(argv=("sleep", "172800")))),
    )


LINES = [
    (BASE, ["FROM debian:trixie"]),
    (Image.from_registry("ghcr.io/a/b@sha256:" + "0" * 64), ["FROM ghcr.io/a/b@sha256:" + "0" * 64]),
    (
        BASE.apt_install("zlib1g-dev", ["git"], "libfoo=1.2~b*"),
        ["FROM base", "RUN apt-get update", "RUN apt-get install -y zlib1g-dev git 'libfoo=1.2~b*'"],
    ),
    (BASE.pip_install("b", "a"), ["FROM base", "RUN python -m pip install a b"]),
    (
        BASE.pip_install("x[extra]>=1", ["b"]),
        ["FROM base", "RUN python -m pip install b 'x[extra]>=1'"],
    ),
    (
        BASE.pip_install(
            "a",
            find_links="https://l/?a=1&b",
            index_url="https://i",
            extra_index_url="https://e",
            pre=True,
            extra_options="--no-deps  $X",
        ),
        [
            "FROM base",
            (
                "RUN python -m pip install a --find-links 'https://l/?a=1&b' --index-url https://i "
                "--extra-index-url https://e --pre --no-deps  $X"
            ),
        ],
    ),
    (BASE.pip_install("a", pre=True), ["FROM base", "RUN python -m pip install a  --pre"]),
    (BASE.pip_install("a", extra_options="-q"), ["FROM base", "RUN python -m pip install a -q"]),
    (BASE.uv_pip_install("b", ["a[x]"]), ["FROM base", UV, f"{UV_RUN} 'a[x]' b"]),
    (
        BASE.uv_pip_install("a", uv_version="0.9.9"),
        ["FROM base", "COPY --from=ghcr.io/astral-sh/uv:0.9.9 /uv /.uv/uv", f"{UV_RUN} a"],
    ),
    (
        BASE.uv_pip_install(requirements=["a/r.txt", "~/b/r.txt"]),
        [
            "FROM base",
            UV,
            "COPY /.0_r.txt /.uv/0/r.txt",
            "COPY /.1_r.txt /.uv/1/r.txt",
            f"{UV_RUN} --requirements /.uv/0/r.txt --requirements /.uv/1/r.txt",
        ],
    ),
    (
        BASE.uv_pip_install(
            "a",
            requirements=["r.txt"],
            find_links="f l",
            index_url="https://i",
            extra_index_url="https://e",
            pre=True,
            extra_options="--no-build",
        ),
        [
            "FROM base",
            UV,
            "COPY /.0_r.txt /.uv/0/r.txt",
            (
                f"{UV_RUN} --find-links 'f l' --index-url https://i --extra-index-url https://e --prerelease allow "
                "--no-build --requirements /.uv/0/r.txt a"
            ),
        ],
    ),
    (BASE.env({"B": "1", "A": "a $X 'q'"}), ["FROM base", "ENV B=1", "ENV A='a $X '\"'\"'q'\"'\"''"]),
    (BASE.env({"E": ""}), ["FROM base", "ENV E=''"]),
    (BASE.env({}), ["FROM base"]),
    (BASE.workdir("/a b"), ["FROM base", "WORKDIR '/a b'"]),
    (BASE.workdir("sub"), ["FROM base", "WORKDIR sub"]),
    (BASE.run_commands("a && b", ["c 'd'"]), ["FROM base", "RUN a && b", "RUN c 'd'"]),
    (BASE.run_commands("a\nb"), ["FROM base", "RUN a\nb"]),
    (BASE.add_local_file("a", "/a", copy=True), ["FROM base", "COPY . /"]),
    (BASE.add_local_dir("a", "/a", copy=True), ["FROM base", "COPY . /"]),
    (BASE.add_local_python_source("a", copy=True), ["FROM base", "COPY . /"]),
]


@pytest.mark.parametrize(("image", "lines"), LINES, ids=lambda value: repr(value) if isinstance(value, Image) else "")
def test_a_step_emits_the_lines_of_the_reference(image: Image, lines: list[str]) -> None:
    assert last_lines(image) == lines


def test_a_command_is_json_that_keeps_what_is_not_ascii() -> None:
    assert SetCommand(argv=("é", '"')).lines(BUILDER) == ('CMD ["é", "\\""]',)


def test_each_step_but_debian_slim_is_one_layer_that_says_what_to_do() -> None:
    assert last_layers(BASE) == (LayerSpec(base="debian:trixie"),)
    wanted: dict[Image, tuple[Instruction, ...]] = {
        BASE.apt_install("b", "a"): (AptInstall(packages=("b", "a")),),
        BASE.pip_install("b", "a"): (PipInstall(packages=("a", "b")),),
        BASE.uv_pip_install("b", "a"): (UvPipInstall(packages=("a", "b")),),
        BASE.env({"B": "1", "A": "2"}): (SetEnv(variables=(("B", "1"), ("A", "2"))),),
        BASE.workdir("/w"): (SetWorkdir(path="/w"),),
        BASE.run_commands("a", "b"): (Run(command="a"), Run(command="b")),
        BASE.add_local_file("a", "/b/", copy=True): (CopyLocal(source=LocalFile(local_path="a", remote_path="/b/a")),),
    }
    for image, instructions in wanted.items():
        assert last_layers(image) == (LayerSpec(instructions=instructions),)


OFFERED = "['3.11', '3.12', '3.13', '3.14', '3.15']"
REFUSED = [
    ("3", "Invalid Python version: '3'."),
    ("", "Invalid Python version: ''."),
    ("2.7", "Invalid Python version: '2.7'."),
    ("3.123", "Invalid Python version: '3.123'."),
    ("3.13.123", "Invalid Python version: '3.13.123'."),
    ("3.13-musl", "Invalid Python version: '3.13-musl'."),
    ("3.13\n", "Invalid Python version: '3.13\\n'."),
    ("3.14t", "Free threaded Python is not supported with Image.debian_slim"),
    ("3.15.0rc1t", "Free threaded Python is not supported with Image.debian_slim"),
    (
        "3.9",
        (
            "Unsupported Python version: '3.9'. When using the '2026.10' Image builder, Image.debian_slim supports the "
            f"following series: {OFFERED}."
        ),
    ),
    ("3.9.18", "Unsupported Python version: '3.9.18'."),
]


@pytest.mark.parametrize(("version", "sentence"), REFUSED)
def test_a_version_that_is_not_offered_is_refused_when_layers_are_asked_for_at_the_users_line(
    version: str, sentence: str
) -> None:
    image = Image.debian_slim(version)
    with pytest.raises(DefinitionError) as caught:
        last_layers(image)
    assert str(caught.value).startswith(f"{image.where}: {sentence}")
    assert caught.value.where == image.where


def test_a_local_version_that_is_not_offered_is_said_to_be_the_local_one() -> None:
    with pytest.raises(DefinitionError) as caught:
        Image.debian_slim().steps[0].layers(BUILDER, "3.10")
    sentence = "Unsupported Python version: '3.10' (that of the Python which runs pytest). When using the '2026.10'"
    assert sentence in str(caught.value)
    assert str(caught.value).endswith(f'{OFFERED}. Name one of them: Image.debian_slim("3.15").')
