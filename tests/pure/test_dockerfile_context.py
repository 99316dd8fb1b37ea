"""Which files a Dockerfile takes from its build context."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from doubles import BASE, plan

from pytest_imagebuild import DefinitionError, FilePatternMatcher, Image, LocalFileError
from pytest_imagebuild.image.patterns import AUTO_DOCKERIGNORE, AutoDockerignore

Ignore = AutoDockerignore | FilePatternMatcher | Sequence[str] | Callable[[Path], bool]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b.py", "dir/c.txt", "dir/sub/d.txt", "other/e.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def taken(*lines: str, ignore: Ignore = [], build_args: dict[str, str] | None = None) -> list[str]:  # noqa: B006
    image = BASE.dockerfile_commands(*lines, ignore=ignore, build_args=build_args)
    return [entry.path for entry in plan(image).layers[-1].files]


ALL = ["/a.txt", "/b.py", "/dir/", "/dir/c.txt", "/dir/sub/", "/dir/sub/d.txt", "/other/", "/other/e.txt"]
DIR = ALL[2:6]


@pytest.mark.parametrize(
    ("line", "paths"),
    [
        ("RUN nothing", []),
        ("COPY . /", ALL),
        ("COPY / /", ALL),
        ("COPY ./ /", ALL),
        ("COPY ./** /", ALL),
        ("COPY dir /", DIR),
        ("COPY dir/ /", DIR),
        ("COPY ./dir/../dir /", DIR),
        ("COPY /dir/sub /", ["/dir/sub/", "/dir/sub/d.txt"]),
        ("COPY a.txt /", ["/a.txt"]),
        ("COPY a.txt b.py /x/", ["/a.txt", "/b.py"]),
        ("COPY *.txt /x/", ["/a.txt"]),
        ("COPY */*.txt /x/", ["/dir/c.txt", "/other/e.txt"]),
        ("COPY *r /x/", ALL[2:]),
        ("COPY *.none /x/", []),
        ('COPY ["a.txt", "/x"]', ["/a.txt"]),
        ("copy --chown=1 --chmod=600 --link a.txt /", ["/a.txt"]),
        ("COPY --from=image a.txt /", []),
        ("ADD a.txt /", ["/a.txt"]),
        ("ADD https://example.org/x /", []),
        ("COPY <<E /\nx\nE", []),
        ("COPY a.txt \\\n # comment\n b.py /x/", ["/a.txt", "/b.py"]),
        ("ARG X=dir\nCOPY $X/c.txt /", ["/dir/c.txt"]),
        ("ENV X=a\nCOPY ${X}.txt /", ["/a.txt"]),
        ("COPY ${NONE:-a}.txt /", None),
        ("RUN --mount=type=bind,source=dir,target=/x ls", DIR),
        ("RUN --mount=type=bind,target=/x ls", ALL),
        ("RUN --mount=type=cache,target=/x ls", []),
    ],
)
def test_the_sources_select_files(line: str, paths: list[str] | None) -> None:
    if paths is None:
        with pytest.raises(DefinitionError, match=r"needs the value of \$NONE, which is not known before the build"):
            taken(line)
    else:
        assert taken(line) == paths


def test_build_arguments_select_files() -> None:
    assert taken("ARG X=nothing", "COPY $X /", build_args={"X": "a.txt"}) == ["/a.txt"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("COPY none /", "COPY: none does not exist in the build context directory {root}"),
        ("ADD ../x /", "ADD: ../x is outside the build context directory {root}"),
        ("COPY dir/../../x /", "COPY: dir/../../x is outside the build context directory {root}"),
        ("COPY out /", "COPY: out is a link to a place outside the build context directory {root}"),
        (
            "COPY hidden.txt /",
            "COPY: hidden.txt is left out of the build context by ignore=, or by a .dockerignore file",
        ),
        ("COPY [a /", "COPY: '[a' has a broken set"),
    ],
)
def test_what_cannot_be_taken_is_said_by_both_lines(project: Path, line: str, problem: str) -> None:
    (project / "hidden.txt").write_text("x")
    (project / "out").symlink_to("/etc/hostname")
    with pytest.raises(DefinitionError) as caught:
        taken("RUN true", line, ignore=["hidden.txt"])
    said = problem.format(root=project)
    step = f'dockerfile_commands("RUN true", "{line}")'
    assert re.fullmatch(
        r".*/test_dockerfile_context\.py:\d+: " + re.escape(f"{step}: line 2 of its commands: {said}"),
        str(caught.value),
    )


def test_links_inside_are_followed_and_links_to_the_outside_dropped(project: Path) -> None:
    (project / "dir" / "inside").symlink_to("../a.txt")
    (project / "dir" / "outside").symlink_to("/etc/hostname")
    (project / "dir" / "folder").symlink_to("../other")
    entries = plan(BASE.dockerfile_commands("COPY dir /x/", ignore=[])).layers[-1].files
    assert [entry.path for entry in entries] == ["/dir/", "/dir/c.txt", "/dir/inside", "/dir/sub/", "/dir/sub/d.txt"]
    assert entries[2].source is not None
    assert entries[2].source.read_text() == "a.txt"


@pytest.mark.parametrize(
    ("ignore", "paths"),
    [
        ([], ALL),
        (["*.txt"], ALL[1:]),
        (["**/*.txt", "!dir/c.txt"], ["/b.py", "/dir/", "/dir/c.txt", "/dir/sub/", "/other/"]),
        (["dir", "other"], ["/a.txt", "/b.py"]),
        (["dir", "!dir/sub", "other"], ["/a.txt", "/b.py", "/dir/", "/dir/sub/", "/dir/sub/d.txt"]),
        (FilePatternMatcher("**/*.txt"), ["/b.py", "/dir/", "/dir/sub/", "/other/"]),
        (lambda path: path.suffix == ".py", [path for path in ALL if path != "/b.py"]),
    ],
)
def test_ignored_files_stay_out(ignore: Ignore, paths: list[str]) -> None:
    assert taken("COPY . /", ignore=ignore) == paths


def test_the_patterns_of_a_file_stay_out(project: Path) -> None:
    (project / "patterns").write_text("# a comment\n*\n!dir/c.txt\n")
    assert taken("COPY . /", ignore=FilePatternMatcher.from_file(project / "patterns")) == ["/dir/", "/dir/c.txt"]


def test_the_ignore_file_of_the_dockerfile_comes_first_and_only_from_the_context(project: Path) -> None:
    def found(context: str = ".", file: str = "sub/Dockerfile") -> set[str]:
        image = Image.from_dockerfile(file, context_dir=context)
        return {entry.path for layer in plan(image).layers for entry in layer.files if not entry.path.endswith("/")}

    (project / "sub").mkdir()
    (project / "sub" / "Dockerfile").write_text("FROM x\nCOPY *.txt *.py /x/\n")
    assert found() == {"/a.txt", "/b.py"}
    (project / ".dockerignore").write_text("# a comment\na.txt\n")
    assert found() == {"/b.py"}
    (project / "sub" / ".dockerignore").write_text("b.py\n")
    assert found() == {"/a.txt"}
    (project / "sub" / "Dockerfile.dockerignore").write_text("*.py\n*.txt\n")
    assert found() == set()
    (project / "elsewhere").mkdir()
    (project / "elsewhere" / "z.txt").write_text("z")
    assert found("elsewhere") == {"/z.txt"}


def test_no_ignore_file_counts_where_none_is_wanted(project: Path) -> None:
    (project / ".dockerignore").write_text("*\n")
    assert taken("COPY . /", ignore=AUTO_DOCKERIGNORE) == []
    assert "/a.txt" in taken("COPY . /", ignore=[])


def test_context_files_are_there_whatever_is_ignored(project: Path) -> None:
    image = BASE.dockerfile_commands(
        "COPY /.given /x", context_files={"/.given": "a.txt"}, context_dir="dir", ignore=["*"]
    )
    (entry,) = plan(image).layers[-1].files
    assert entry.path == "/.given"
    assert entry.source == project / "a.txt"


def test_a_missing_context_file_is_said_at_the_call() -> None:
    image = BASE.dockerfile_commands("COPY /x /x", context_files={"/x": "none.txt"})
    with pytest.raises(LocalFileError, match=r"the file none\.txt of context_files does not exist \(looked at "):
        plan(image)


def test_the_home_folder_is_meant_by_a_tilde(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project))
    (project / "dir" / "Dockerfile").write_text("FROM x\nCOPY c.txt /\n")
    files = plan(Image.from_dockerfile("~/dir/Dockerfile", context_dir="~/dir")).layers[-1].files
    assert [entry.path for entry in files] == ["/c.txt"]


def test_a_missing_dockerfile_is_said_at_the_call(project: Path) -> None:
    with pytest.raises(LocalFileError) as caught:
        plan(Image.from_dockerfile("none/Dockerfile"))
    assert str(caught.value).endswith(
        f"from_dockerfile: none/Dockerfile does not exist (looked at {project}/none/Dockerfile)."
    )
