"""The text that a builder gets for a Dockerfile."""

from __future__ import annotations

import pytest

from pytest_imagebuild.dockerfile import DockerfileError, read
from pytest_imagebuild.engines.docker.dockerfile.needs import check_classic
from pytest_imagebuild.engines.docker.dockerfile.rewrite import Loan, rewritten
from pytest_imagebuild.engines.work import DockerfileWork

LENT = "--mount=type=secret,id=imagebuild-environment,mode=0444,required=true "
SOURCED = ". /run/secrets/imagebuild-environment; "


def sent(text: str, *, loan: Loan | None = None, on_parent: bool = False, prune: bool = False) -> str:
    dockerfile = read(text, build_args={}, platform="linux/amd64", on_parent=on_parent)
    return rewritten(
        dockerfile,
        text,
        image=lambda reference: f"pinned/{reference or 'parent'}",
        shell=lambda reference: ["/bin/zsh", "-c"] if reference == "zsh" else None,
        loan=loan or Loan(),
        prune=prune,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a\nRUN b \\\n  c\n", "FROM pinned/a\nRUN b \\\n  c\n"),
        ("FROM --platform=linux/amd64 a AS b\nFROM b\n", "FROM pinned/a AS b\nFROM b\n"),
        ("ARG V=1\nFROM a:$V\n", "ARG V=1\nFROM pinned/a:1\n"),
        ("FROM scratch\nCOPY --from=a b c\n", "FROM scratch\nCOPY --from=pinned/a b c\n"),
        (
            "FROM a AS b\nFROM a\nCOPY --chown=1 \\\n --from=b x \\\n y\n",
            "FROM pinned/a AS b\nFROM pinned/a\nCOPY --chown=1 \\\n --from=b x \\\n y\n",
        ),
        ("FROM a\nCOPY \\\n --from=b:1 x \\\n y\n", "FROM pinned/a\n\n\nCOPY --from=pinned/b:1 x  y\n"),
        ("FROM a\nRUN --mount=from=b,target=/b ls x\n", "FROM pinned/a\nRUN --mount=from=pinned/b,target=/b ls x\n"),
        (
            "# syntax=docker/dockerfile:1\n# escape=`\nFROM a\n",
            "# escape=`\n#\nFROM pinned/a\n",
        ),
    ],
)
def test_pinned_images_take_the_place_of_references_and_no_line_moves(text: str, expected: str) -> None:
    assert sent(text) == expected
    assert expected.count("\n") == text.count("\n")


def test_the_first_stage_of_lines_stands_on_the_layer_below() -> None:
    assert sent("FROM base\nFROM base\nCOPY --from=0 a b\n", on_parent=True) == (
        "FROM pinned/parent\nFROM pinned/base\nCOPY --from=0 a b\n"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a\nRUN b", f'RUN {LENT}["/bin/sh", "-c", "{SOURCED}exec \\"$@\\"", "sh", "/bin/sh", "-c", "b"]'),
        ("FROM zsh\nRUN b", f'RUN {LENT}["/bin/sh", "-c", "{SOURCED}exec \\"$@\\"", "sh", "/bin/zsh", "-c", "b"]'),
        ('FROM a\nSHELL ["x"]\nRUN b', f'RUN {LENT}["/bin/sh", "-c", "{SOURCED}exec \\"$@\\"", "sh", "x", "b"]'),
        (
            'FROM a\nRUN --network=none ["b"]',
            f'RUN {LENT}--network=none ["/bin/sh", "-c", "{SOURCED}exec \\"$@\\"", "sh", "b"]',
        ),
        (
            "FROM a\nRUN <<E\nb\nE",
            f'RUN {LENT}["/bin/sh", "-c", "{SOURCED}exec \\"$@\\"", "sh", "/bin/sh", "-c", "b\\n"]',
        ),
    ],
)
def test_run_is_lent_variables_that_stay_in_no_history(text: str, expected: str) -> None:
    assert sent(text, loan=Loan(variables=True)).split("\n")[-1] == expected


def test_run_is_lent_files() -> None:
    assert sent("FROM a\nRUN b\n", loan=Loan(files={"ca": "/x/ca.pem"})) == (
        'FROM pinned/a\nRUN --mount=type=secret,id=ca,target=/x/ca.pem,mode=0444 ["/bin/sh", "-c", "b"]\n'
    )


def test_stages_that_nothing_needs_are_emptied_for_a_builder_that_would_make_them() -> None:
    text = "FROM a AS one\nRUN x \\\n y\nCOPY <<E /\nz\nE\nFROM b\n"
    assert sent(text, prune=True) == "FROM scratch AS one\n\n\n\n\n\nFROM pinned/b\n"
    assert sent(text) == text.replace("FROM b", "FROM pinned/b")


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("FROM a\nRUN <<E\nb\nE\n", 2, "a here-document"),
        ("FROM a\nUSER x\nCOPY --chmod=1 b c\n", 3, "--chmod of COPY"),
        ("FROM a\nRUN --mount=type=cache,target=/b c\n", 2, "--mount of RUN"),
        ("FROM a\nADD --checksum=sha256:1 https://b c\n", 2, "--checksum of ADD"),
    ],
)
def test_the_classic_builder_says_what_it_lacks(text: str, line: int, what: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        check_classic(read(text, build_args={}, platform="linux/amd64"), DockerfileWork(text=text))
    assert caught.value.line == line
    assert caught.value.problem == (
        f"{what} needs BuildKit: install the buildx plugin of Docker (docker-buildx), or use the embedded engine"
    )


def test_the_classic_builder_takes_no_variables_for_run() -> None:
    text = "FROM a\nUSER b\nRUN c\n"
    dockerfile = read(text, build_args={}, platform="linux/amd64")
    check_classic(dockerfile, DockerfileWork(text=text, host_settings={"PIP_INDEX_URL": "x"}))
    with pytest.raises(DockerfileError, match="a RUN with env= or secrets= needs BuildKit") as caught:
        check_classic(dockerfile, DockerfileWork(text=text, environment={"A": "1"}))
    assert caught.value.line == 3
