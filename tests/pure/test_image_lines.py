"""The emitted commands of every step on builder version 2026.10, and the layers that they belong to."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath

import pytest

import pytest_imagebuild
from pytest_imagebuild import DefinitionError, Image, Secret
from pytest_imagebuild.image.builder import Builder
from pytest_imagebuild.image.instructions import (
    AddPython,
    CopyLocal,
    Instruction,
    Run,
    SetCommand,
    SetEnv,
    SetWorkdir,
    UvPipInstall,
)
from pytest_imagebuild.image.sources import LocalFile
from pytest_imagebuild.image.step import LayerSpec
from pytest_imagebuild.image.steps.apt import AptInstall
from pytest_imagebuild.image.steps.pip import PipInstall

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


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        ("3.10", "3.10.17"),
        ("3.11", "3.11.12"),
        ("3.12", "3.12.10"),
        ("3.13", "3.13.3"),
        ("3.14", "3.14.2"),
        ("3.15", "3.15.0"),
        ("3.13.2", "3.13.2"),
    ],
)
def test_version_2025_06_is_bookworm_and_takes_a_fixed_version_of_a_series(asked: str, taken: str) -> None:
    builder = Builder.from_dict(tomllib.loads((DATA / "2025.06.toml").read_text("utf-8")))
    assert list(Image.debian_slim(asked).steps[0].lines(builder, "3.12")) == [
        f"FROM python:{taken}-slim-bookworm",
        "RUN apt-get update",
        "RUN apt-get install -y gcc gfortran build-essential",
        "RUN pip install --upgrade pip wheel uv",
        f"RUN {DEBCONF}",
        'CMD ["sleep", "172800"]',
    ]


def test_a_builder_of_another_version_says_which_series_it_has() -> None:
    builder = Builder.from_dict(tomllib.loads((DATA / "2025.06.toml").read_text("utf-8")))
    with pytest.raises(DefinitionError, match=r"When using the '2025\.06' Image builder") as caught:
        Image.debian_slim("3.9").steps[0].layers(builder, "3.12")
    assert "['3.10', '3.11', '3.12', '3.13', '3.14', '3.15']" in str(caught.value)


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
    (BASE.workdir(PurePosixPath("/a b")), ["FROM base", "WORKDIR '/a b'"]),
    (BASE.run_commands("a && b", ["c 'd'"]), ["FROM base", "RUN a && b", "RUN c 'd'"]),
    (BASE.run_commands("a\nb"), ["FROM base", "RUN a\nb"]),
    (BASE.cmd(["python", "-m", "é"]), ["FROM base", 'CMD ["python", "-m", "é"]']),
    (BASE.cmd([]), ["FROM base", "CMD []"]),
    (BASE.entrypoint([]), ["FROM base", "ENTRYPOINT []"]),
    (BASE.entrypoint(["/bin/a b"]), ["FROM base", 'ENTRYPOINT ["/bin/a b"]']),
    (BASE.shell(["/bin/bash", "-c"]), ["FROM base", 'SHELL ["/bin/bash", "-c"]']),
    (Image.from_scratch(), ["FROM scratch"]),
    (
        Image.from_registry("debian:trixie", add_python="3.14t"),
        [
            "FROM debian:trixie",
            "COPY /python/. /usr/local",
            "ENV TERMINFO_DIRS=/etc/terminfo:/lib/terminfo:/usr/share/terminfo:/usr/lib/terminfo",
        ],
    ),
    (
        BASE.pip_install_from_requirements("a/r.txt"),
        [
            "FROM base",
            "COPY /.requirements.txt /.requirements.txt",
            "RUN python -m pip install -r /.requirements.txt",
        ],
    ),
    (
        BASE.pip_install_from_requirements(Path("r.txt"), "https://l", index_url="https://i", pre=True),
        [
            "FROM base",
            "COPY /.requirements.txt /.requirements.txt",
            (
                "RUN python -m pip install -r /.requirements.txt -f https://l --find-links https://l "
                "--index-url https://i --pre"
            ),
        ],
    ),
    (
        BASE.pip_install_private_repos(
            "gitlab.com/o/b@v1",
            "github.com/o/a",
            git_user="me",
            pre=True,
            secrets=[Secret.from_dict({"GITHUB_TOKEN": "x", "GITLAB_TOKEN": "y"})],
        ),
        [
            "FROM base",
            "RUN bash -c \"[[ -v GITLAB_TOKEN ]] || (echo 'GITLAB_TOKEN is not among the secrets' && exit 1)\"",
            "RUN bash -c \"[[ -v GITHUB_TOKEN ]] || (echo 'GITHUB_TOKEN is not among the secrets' && exit 1)\"",
            "RUN apt-get update",
            "RUN apt-get install -y git",
            'RUN python3 -m pip install "git+https://me:$GITHUB_TOKEN@github.com/o/a" --pre',
            'RUN python3 -m pip install "git+https://me:$GITLAB_TOKEN@gitlab.com/o/b@v1" --pre',
        ],
    ),
    (
        BASE.uv_sync(groups=["g h"], extras=["e"], extra_options="--quiet", uv_version="0.9.9"),
        [
            "FROM base",
            "COPY --from=ghcr.io/astral-sh/uv:0.9.9 /uv /.uv/uv",
            "COPY /.pyproject.toml /.uv/pyproject.toml",
            (
                "RUN /.uv/uv sync --project=/.uv --no-install-workspace --compile-bytecode --group='g h' --extra=e "
                "--quiet"
            ),
            "ENV PATH=/.uv/.venv/bin:$PATH",
        ],
    ),
    (
        BASE.poetry_install_from_file("p.toml", with_=["a", "b"], without=["c"], only=["d"]),
        [
            "FROM base",
            "RUN python -m pip install poetry",
            "COPY /.poetry.lock /tmp/poetry/poetry.lock",
            "COPY /.pyproject.toml /tmp/poetry/pyproject.toml",
            "RUN cd /tmp/poetry && \\ ",
            "  poetry config virtualenvs.create false && \\ ",
            "  poetry install --no-root --with a,b --without c --only d --compile",
        ],
    ),
    (
        BASE.poetry_install_from_file("p.toml", ignore_lockfile=True, poetry_version="1.8.5", old_installer=True),
        [
            "FROM base",
            "RUN python -m pip install poetry==1.8.5",
            "RUN poetry config experimental.new-installer false",
            "COPY /.pyproject.toml /tmp/poetry/pyproject.toml",
            "RUN cd /tmp/poetry && \\ ",
            "  poetry config virtualenvs.create false && \\ ",
            "  poetry install --no-root --compile",
        ],
    ),
    (BASE.add_local_file("a", "/a", copy=True), ["FROM base", "COPY . /"]),
    (BASE.add_local_dir("a", "/a", copy=True), ["FROM base", "COPY . /"]),
    (BASE.add_local_python_source("a", copy=True), ["FROM base", "COPY . /"]),
]


@pytest.mark.parametrize(("image", "lines"), LINES, ids=lambda value: repr(value) if isinstance(value, Image) else "")
def test_a_step_emits_the_lines_of_the_reference(image: Image, lines: list[str]) -> None:
    assert last_lines(image) == lines


@pytest.mark.parametrize(("image", "lines"), LINES, ids=lambda value: repr(value) if isinstance(value, Image) else "")
def test_version_2025_06_emits_the_same_lines(image: Image, lines: list[str]) -> None:
    builder = Builder.from_dict(tomllib.loads((DATA / "2025.06.toml").read_text("utf-8")))
    assert list(image.steps[-1].lines(builder, "3.12")) == lines


@pytest.mark.parametrize("setup", ["RUN a", ["RUN a"], ("RUN a",)])
def test_a_setup_command_is_one_line_and_not_its_letters(setup: object) -> None:
    image = Image.from_registry("debian:trixie", setup_dockerfile_commands=setup)  # type: ignore[arg-type]
    assert last_lines(image) == ["FROM debian:trixie", "RUN a"]


@pytest.mark.parametrize("method", ["from_registry", "from_aws_ecr", "from_gcp_artifact_registry"])
def test_each_way_to_a_registry_adds_python_and_then_runs_the_setup_commands(method: str) -> None:
    image = getattr(Image, method)("a:1", add_python="3.13", setup_dockerfile_commands=["RUN b", "ENV C=d"])
    assert last_lines(image) == [
        "FROM a:1",
        "COPY /python/. /usr/local",
        "ENV TERMINFO_DIRS=/etc/terminfo:/lib/terminfo:/usr/share/terminfo:/usr/lib/terminfo",
        "RUN b",
        "ENV C=d",
    ]


@pytest.mark.parametrize(
    ("version", "asked", "added"),
    [
        ("2025.06", "3.10", "3.10.17"),
        ("2025.06", "3.14t", "3.14.2t"),
        ("2026.10", "3.11", "3.11.17"),
        ("2026.10", "3.14t", "3.14.9t"),
        ("2026.10", "3.15t", "3.15.1t"),
    ],
)
def test_the_python_that_is_added_is_the_one_of_the_builder_version(version: str, asked: str, added: str) -> None:
    builder = Builder.from_dict(tomllib.loads((DATA / f"{version}.toml").read_text("utf-8")))
    layers = Image.from_registry("a:1", add_python=asked).steps[0].layers(builder, "3.12")
    assert layers[1].instructions[0] == AddPython(version=added)


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


STANDALONE = "['3.11', '3.12', '3.13', '3.14', '3.14t', '3.15', '3.15t']"
NOT_ADDED = [
    (
        "3.12.1",
        (
            "The Python version must be specified as 'major.minor' for this interface; micro-level specification "
            "('3.12.1') is not valid. Write add_python='3.12'."
        ),
    ),
    ("3.12-musl", "Invalid Python version: '3.12-musl'. Write a series, as add_python='3.15t'."),
    (
        "3.9",
        (
            "Unsupported Python version: '3.9'. When using the '2026.10' Image builder, add_python supports the "
            f"following series: {STANDALONE}."
        ),
    ),
    (
        "3.13t",
        (
            "Unsupported Python version: '3.13t'. When using the '2026.10' Image builder, add_python supports the "
            f"following series: {STANDALONE}."
        ),
    ),
]


@pytest.mark.parametrize(("version", "sentence"), NOT_ADDED)
def test_a_python_that_cannot_be_added_is_refused_when_layers_are_asked_for(version: str, sentence: str) -> None:
    image = Image.from_registry("debian:trixie", add_python=version)
    with pytest.raises(DefinitionError) as caught:
        last_layers(image)
    assert str(caught.value) == f"{image.where}: {sentence}"


def test_a_python_is_added_in_a_layer_of_its_own_in_the_version_of_the_builder() -> None:
    assert last_layers(Image.from_registry("debian:trixie", add_python="3.12")) == (
        LayerSpec(base="debian:trixie"),
        LayerSpec(
            instructions=(
                AddPython(version="3.12.15"),
                SetEnv(
                    variables=(("TERMINFO_DIRS", "/etc/terminfo:/lib/terminfo:/usr/share/terminfo:/usr/lib/terminfo"),)
                ),
            )
        ),
    )
