"""What `imagebuild export --dockerfile` says of each step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from doubles import BASE, plan

from pytest_imagebuild import DefinitionError, FilePatternMatcher, Image, Secret, Volume
from pytest_imagebuild.lockfile import BaseRecord
from pytest_imagebuild.plan.dockerfile import dockerfile_of

DIGEST = f"sha256:{'1' * 64}"
UV = "COPY --from=ghcr.io/astral-sh/uv:0.13.9 /uv /.uv/uv"
READ_ONLY = " --mount=type=cache,id=data,target=/in,readonly export A=1 && make"
UV_RUN = "RUN /.uv/uv pip install --python $(command -v python) --compile-bytecode"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build context with some files in it, as the current folder."""
    context = tmp_path / "project"
    for name in ("req.txt", "data/a.txt", "data/b.log", "src/pkg/__init__.py", "src/pkg/deep/mod.py", "src/single.py"):
        path = context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("six\n")
    (tmp_path / "outside.txt").write_text("x")
    monkeypatch.chdir(context)
    monkeypatch.syspath_prepend(str(context / "src"))
    return context


def blocks(image: Image, *records: BaseRecord) -> list[list[str]]:
    """Return the blocks below the head, each as its lines."""
    text = dockerfile_of(plan(image), {record.reference: record for record in records}, Path.cwd())
    return [block.splitlines() for block in text.rstrip("\n").split("\n\n")[1:]]


def last(image: Image) -> list[str]:
    """Return the lines of the last block, below its comment."""
    return blocks(image)[-1][1:]


def record(reference: str, source: str = "registry") -> BaseRecord:
    return BaseRecord(reference=reference, platform="linux/amd64", source=source, digest=DIGEST)


def refused(image: Image) -> str:
    with pytest.raises(DefinitionError) as caught:
        dockerfile_of(plan(image), {}, Path.cwd())
    return str(caught.value)


def test_a_chain_is_a_block_for_each_call_with_the_call_as_its_comment() -> None:
    text = dockerfile_of(plan(BASE.apt_install("git").run_commands("a", "b")), {}, Path.cwd())
    head, *rest = text.split("\n\n")
    assert all(line.startswith("#") for line in head.splitlines())
    assert rest == [
        '# from_registry("debian:trixie")\nFROM debian:trixie',
        '# apt_install("git")\nRUN apt-get update\nRUN apt-get install -y git',
        '# run_commands("a", "b")\nRUN a\nRUN b\n',
    ]


def test_debian_slim_is_one_block_of_all_its_layers() -> None:
    (block,) = blocks(Image.debian_slim("3.13"), record("python:3.13-slim-trixie"))
    assert block == [
        '# debian_slim("3.13")',
        f"FROM python:3.13-slim-trixie@{DIGEST}",
        "RUN apt-get update",
        "RUN apt-get install -y gcc gfortran build-essential",
        "RUN pip install --upgrade pip wheel uv",
        "RUN echo 'debconf debconf/frontend select Noninteractive' | debconf-set-selections",
        'CMD ["sleep", "172800"]',
    ]


@pytest.mark.parametrize(
    ("reference", "source", "lines"),
    [
        ("debian:trixie", "registry", [f"FROM debian:trixie@{DIGEST}"]),
        (f"debian@{DIGEST}", "registry", [f"FROM debian@{DIGEST}"]),
        (
            "debian:trixie",
            "bootstrap",
            [
                "# imagebuild made this base from Debian's packages; the one of the registry may differ",
                "FROM debian:trixie",
            ],
        ),
        ("mine:1", "local", ["# imagebuild took the engine's own image of this name", "FROM mine:1"]),
    ],
)
def test_a_base_is_pinned_where_the_lockfile_has_a_digest_of_a_registry(
    reference: str, source: str, lines: list[str]
) -> None:
    assert blocks(Image.from_registry(reference), record(reference, source))[0][1:] == lines


def test_nothing_is_the_base_of_an_image_from_scratch() -> None:
    assert blocks(Image.from_scratch())[0] == ["# from_scratch()", "FROM scratch"]


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (lambda image: image.pip_install("b<2", "a"), ["RUN python -m pip install a 'b<2'"]),
        (
            lambda image: image.pip_install_from_requirements("req.txt"),
            [
                'COPY ["req.txt", "/.requirements.txt"]',
                "RUN python -m pip install -r /.requirements.txt",
            ],
        ),
        (
            lambda image: image.uv_pip_install("a", requirements=["req.txt", "data/a.txt"]),
            [
                UV,
                'COPY ["req.txt", "/.uv/0/req.txt"]',
                'COPY ["data/a.txt", "/.uv/1/a.txt"]',
                f"{UV_RUN} --requirements /.uv/0/req.txt --requirements /.uv/1/a.txt a",
            ],
        ),
        (
            lambda image: image.apt_install("git", env={"A": "b c"}),
            [
                "RUN export A='b c' && apt-get update",
                "RUN export A='b c' && apt-get install -y git",
            ],
        ),
        (lambda image: image.env({"A": "it's $X", "B": ""}), ["ENV A='it'\"'\"'s $X'", "ENV B=''"]),
        (lambda image: image.workdir("/a b"), ["WORKDIR '/a b'"]),
        (lambda image: image.entrypoint(["ü", "x"]), ['ENTRYPOINT ["ü", "x"]']),
        (lambda image: image.cmd([]), ["CMD []"]),
        (lambda image: image.run_commands("a", env={"K": "v"}), ["RUN export K=v && a"]),
        (lambda image: image.run_commands("a \\\n  b"), ['RUN ["/bin/sh", "-c", "a \\\\\\n  b"]']),
        (lambda image: image.run_commands("--flag"), ['RUN ["/bin/sh", "-c", "--flag"]']),
        (lambda image: image.run_commands("cat <<X"), ['RUN ["/bin/sh", "-c", "cat <<X"]']),
        (lambda image: image.run_commands('["a"]'), ['RUN ["/bin/sh", "-c", "[\\"a\\"]"]']),
        (lambda image: image.shell(["/bin/bash", "-ec"]).run_commands("x\ny"), ['RUN ["/bin/bash", "-ec", "x\\ny"]']),
        (
            lambda image: image.shell(["/bin/bash", "-ec"]).run_commands("x", env={"A": "1"}),
            ['RUN ["env", "A=1", "/bin/bash", "-ec", "x"]'],
        ),
    ],
)
def test_each_step_has_its_lines(folder: Path, change: Callable[[Image], Image], lines: list[str]) -> None:
    assert last(change(BASE)) == lines


def test_the_password_of_an_index_is_left_out() -> None:
    lines = last(BASE.pip_install("a", index_url="https://me:secret@host.example/simple"))
    assert lines == [
        "# The password of an index is left out: give it with a build secret or a netrc file",
        "RUN python -m pip install a --index-url https://host.example/simple",
    ]


def test_a_micromamba_image_installs_with_the_shell_that_it_names(folder: Path) -> None:
    (folder / "spec.yml").write_text("dependencies: [b]\n")
    base, install = blocks(Image.micromamba("3.13").micromamba_install("a", spec_file="spec.yml", channels=["c"]))
    assert base[1].startswith("FROM mambaorg/micromamba:")
    assert base[2] == 'SHELL ["/usr/local/bin/_dockerfile_shell.sh"]'
    assert "RUN micromamba install -n base -y python=3.13 pip -c conda-forge" in base
    assert install[1:] == [
        'COPY ["spec.yml", "/spec.yml"]',
        "RUN micromamba install a -f /spec.yml -n base -c c --yes",
    ]


def test_a_poetry_project_is_copied_and_installed_by_one_command(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool.poetry]\n")
    (folder / "poetry.lock").write_text("")
    image = BASE.poetry_install_from_file("pyproject.toml", poetry_version=None)
    assert last(image) == [
        'COPY ["pyproject.toml", "/tmp/poetry/pyproject.toml"]',
        'COPY ["poetry.lock", "/tmp/poetry/poetry.lock"]',
        "RUN cd /tmp/poetry && poetry config virtualenvs.create false && poetry install --no-root --compile",
    ]


def test_a_uv_project_is_copied_and_its_environment_comes_first_on_path(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[project]\nname = 'x'\nversion = '1'\n")
    assert last(BASE.uv_sync()) == [
        UV,
        'COPY ["pyproject.toml", "/.uv/pyproject.toml"]',
        "RUN /.uv/uv sync --project=/.uv --no-install-workspace --compile-bytecode",
        "ENV PATH=/.uv/.venv/bin:$PATH",
    ]


def test_add_python_installs_it_as_we_do() -> None:
    lines = blocks(Image.from_registry("debian:trixie", add_python="3.13"))[0]
    assert lines[1:3] == ["FROM debian:trixie", UV]
    assert "python install --no-bin --install-dir /tmp/python cpython-3.13." in lines[3]
    assert lines[-1].startswith("ENV TERMINFO_DIRS=")


def test_lines_of_a_dockerfile_stay_as_they_are(folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM debian:trixie\nARG A=1\nCOPY data /data\nRUN a && \\\n  b\n")
    (block,) = blocks(Image.from_dockerfile("Dockerfile", build_args={"A": "b c"}), record("debian:trixie"))
    assert block == [
        '# from_dockerfile("Dockerfile")',
        f"FROM debian:trixie@{DIGEST}",
        "# Needs: docker build --build-arg A='b c'",
        "ARG A=1",
        "COPY data /data",
        "RUN a && \\",
        "  b",
    ]
    assert last(BASE.dockerfile_commands("RUN x", "USER games")) == ["RUN x", "USER games"]
    (folder / "Stages").write_text("FROM a AS one\nRUN x\nFROM b\nCOPY --from=one /x /y\n")
    image = Image.from_dockerfile("Stages").run_commands("z")
    assert [line for block in blocks(image) for line in block] == [
        '# from_dockerfile("Stages")',
        "FROM a AS one",
        "RUN x",
        "FROM b",
        "COPY --from=one /x /y",
        '# run_commands("z")',
        "RUN z",
    ]


def test_lines_with_a_context_or_an_escape_of_their_own_are_refused_at_the_users_line(folder: Path) -> None:
    said = refused(BASE.dockerfile_commands("COPY a.txt /", context_dir="data"))
    assert said.partition("test_dockerfile.py:")[2].partition(": ")[2] == (
        f'dockerfile_commands("COPY a.txt /") copies files of a build context of its own ({folder / "data"}), and a '
        "Dockerfile has one context, which will be this folder. Export the built image: `imagebuild export --oci`."
    )
    (folder / "Dockerfile").write_text("# escape=`\nFROM a AS b\nRUN x\n")
    assert 'from_dockerfile("Dockerfile") sets the escape character' in refused(Image.from_dockerfile("Dockerfile"))


def test_a_step_that_calls_a_function_is_refused_at_the_users_line() -> None:
    said = refused(BASE.run_function(record))
    assert said.partition("test_dockerfile.py:")[2].partition(": ")[2] == (
        "run_function(record) cannot be said in a Dockerfile. Export the built image: `imagebuild export --oci`."
    )


def test_private_repositories_are_asked_for_with_the_secrets_mounted() -> None:
    secret = Secret.from_dict({"GITHUB_TOKEN": "do-not-show"})
    lines = last(BASE.pip_install_private_repos("github.com/me/it", git_user="me", secrets=[secret]))
    mount = "RUN --mount=type=secret,id=GITHUB_TOKEN,env=GITHUB_TOKEN "
    assert all(line.startswith(mount) for line in lines[1:])
    assert lines[-1] == f'{mount}python3 -m pip install "git+https://me:$GITHUB_TOKEN@github.com/me/it"'


def test_a_gpu_is_said_in_a_comment() -> None:
    assert last(BASE.run_commands("a", gpu="H100")) == [
        "# imagebuild gives this step a GPU, for which a Dockerfile has no word: build where every step has one",
        "RUN a",
    ]


def test_an_image_of_this_machine_is_refused_at_the_users_line() -> None:
    said = refused(Image.from_name("team"))
    assert said.partition("test_dockerfile.py:")[2].partition(": ")[2] == (
        "from_name: 'team:latest' names an image of this machine, which no other builder finds. Export the built "
        "image: `imagebuild export --oci`."
    )


def test_secrets_and_volumes_are_mounts_of_buildkit() -> None:
    secret = Secret.from_dict({"TOKEN": "do-not-show", "A": "do-not-show"})
    volumes: dict[str | PurePosixPath, Volume] = {
        "/cache": Volume.from_name("wheels"),
        "/in": Volume.from_name("data").read_only(),
    }
    assert last(BASE.run_commands("make", secrets=[secret], env={"A": "1"}, volumes=volumes)) == [
        "# Needs BuildKit with Dockerfile syntax 1.10 or newer, and: docker build --secret id=A --secret id=TOKEN",
        "RUN --mount=type=secret,id=TOKEN,env=TOKEN --mount=type=cache,id=wheels,target=/cache" + READ_ONLY,
    ]
    lines = last(BASE.pip_install("a", secrets=[Secret.from_dotenv()]))
    assert lines == [
        "# Needs BuildKit with Dockerfile syntax 1.10 or newer, and: docker build --secret id=NAME",
        "# The names of some variables are not known before their source is read: add a --mount for each of them",
        "RUN python -m pip install a",
    ]


# local files --------------------------------------------------------------------------------------------------------


def test_local_files_are_copied_from_where_they_are(folder: Path) -> None:
    (folder / "odd [1] $x.txt").write_text("")
    assert last(BASE.add_local_file("req.txt", "/srv/", copy=True)) == ['COPY ["req.txt", "/srv/req.txt"]']
    assert last(BASE.add_local_file(folder / "data" / "a.txt", "/a", copy=True)) == ['COPY ["data/a.txt", "/a"]']
    odd = last(BASE.add_local_file("odd [1] $x.txt", "/$y", copy=True))
    assert odd == [f"COPY {json.dumps(['odd [[]1] ' + chr(92) + '$x.txt', '/' + chr(92) + '$y'])}"]
    assert last(BASE.add_local_dir("data", "/srv/data", copy=True)) == ['COPY ["data", "/srv/data/"]']
    assert last(BASE.add_local_dir(".", "/srv", copy=True)) == ['COPY [".", "/srv/"]']


def test_what_is_ignored_is_to_be_named_in_a_dockerignore_file(folder: Path) -> None:
    assert last(BASE.add_local_dir("data", "/d", copy=True, ignore=["*.log", "!keep.log"])) == [
        "# Without these, which are to be lines of a .dockerignore file:",
        "#     data/*.log",
        "#     !data/keep.log",
        'COPY ["data", "/d/"]',
    ]
    said = "# Without what ignore= leaves out, which has to be named in a .dockerignore file"
    for ignore in (lambda path: True, ~FilePatternMatcher("*.txt")):
        assert last(BASE.add_local_dir("data", "/d", copy=True, ignore=ignore)) == [said, 'COPY ["data", "/d/"]']


def test_modules_are_copied_from_where_they_are_found(folder: Path) -> None:
    assert last(BASE.add_local_python_source("pkg", "single", copy=True)) == [
        "# Without these, which are to be lines of a .dockerignore file:",
        "#     src/pkg/**",
        "#     !src/pkg/**/*.py",
        "#     src/pkg/**/.*",
        "#     src/pkg/**/__pycache__",
        'COPY ["src/pkg", "/root/pkg/"]',
        'COPY ["src/single.py", "/root/single.py"]',
    ]


def test_what_a_container_gets_at_its_start_is_copied_at_the_end(folder: Path) -> None:
    assert blocks(BASE.add_local_file("req.txt", "/req"))[-1] == [
        '# add_local_file("req.txt", "/req"): imagebuild does it when a container starts',
        'COPY ["req.txt", "/req"]',
    ]


# what no Dockerfile can say -----------------------------------------------------------------------------------------


def test_a_file_outside_of_the_build_context_is_refused_at_the_users_line(folder: Path) -> None:
    said = refused(BASE.add_local_file("../outside.txt", "/x", copy=True))
    assert said.partition("test_dockerfile.py:")[2].partition(": ")[2] == (
        "../outside.txt is outside of this folder, which will be the build context, and no Dockerfile can copy what is "
        "outside of that. Run `imagebuild export` in a folder above both."
    )


def test_a_variable_with_a_line_break_is_refused_at_the_users_line() -> None:
    said = refused(BASE.env({"A": "1\n2"}))
    assert said.partition("test_dockerfile.py:")[2].partition(": ")[2] == (
        "env: the value of 'A' has a line break, which no ENV of a Dockerfile can hold. Export the built image: "
        "`imagebuild export --oci`."
    )
