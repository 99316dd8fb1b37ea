"""What layers a Dockerfile becomes, what enters their keys, and what is pinned for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from doubles import BASE, BUILDER, World, plan

from pytest_imagebuild import DefinitionError, Image, Secret, StepError
from pytest_imagebuild.engines.layers import BasePin
from pytest_imagebuild.engines.memory import CommandResult
from pytest_imagebuild.engines.work import DockerfileWork
from pytest_imagebuild.image.dockerfile_lines import BuildContext
from pytest_imagebuild.image.dockerfiles import FromDockerfileStep


def layers(text: str) -> list[tuple[str | None, list[str]]]:
    """Give base and lines of each layer of a file."""
    step = FromDockerfileStep(path="Dockerfile", context=BuildContext(), text=text)
    return [
        (spec.base, list(spec.dockerfile.lines(BUILDER)) if spec.dockerfile else [])
        for spec in step.layers(BUILDER, "3.13")
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a\nRUN b\n", [("a", []), (None, ["RUN b", ""])]),
        ("# comment\n\nFROM a\nRUN b", [("a", []), (None, ["RUN b"])]),
        ("from a\n\n# only this\n", [("a", [])]),
        ("ARG X\nFROM a\nRUN b", [(None, ["ARG X", "FROM a", "RUN b"])]),
        ("FROM \\\n a\nRUN b", [(None, ["FROM \\", " a", "RUN b"])]),
        ("FROM a AS b\nRUN c", [(None, ["FROM a AS b", "RUN c"])]),
        ("# syntax=docker/dockerfile:1\nFROM a\nRUN b", [(None, ["# syntax=docker/dockerfile:1", "FROM a", "RUN b"])]),
        ("FROM a\nFROM b", [(None, ["FROM a", "FROM b"])]),
        ("FROM --platform=linux/amd64 a\nRUN b", [(None, ["FROM --platform=linux/amd64 a", "RUN b"])]),
        ("FROM scratch\nCOPY a b", [(None, ["FROM scratch", "COPY a b"])]),
    ],
)
def test_a_simple_file_is_split_after_its_from(text: str, expected: list[tuple[str | None, list[str]]]) -> None:
    assert layers(text) == expected


def test_the_lines_of_a_file_are_given_verbatim() -> None:
    text = "# c\nFROM a\nRUN b \\\n  c\n"
    step = FromDockerfileStep(path="Dockerfile", context=BuildContext(), text=text)
    assert list(step.lines(BUILDER, "3.13")) == ["# c", "FROM a", "RUN b \\", "  c", ""]


def test_python_is_added_in_a_last_layer(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM a\nRUN b\n")
    image = Image.from_dockerfile(tmp_path / "Dockerfile", add_python="3.13")
    layers = [[line for item in layer.instructions for line in item.lines(BUILDER)] for layer in plan(image).layers]
    assert layers == [
        [],
        [],
        [
            "COPY /python/. /usr/local",
            "ENV TERMINFO_DIRS=/etc/terminfo:/lib/terminfo:/usr/share/terminfo:/usr/lib/terminfo",
        ],
    ]


def test_a_python_that_cannot_be_added_is_said_before_the_file_is_split(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM a\nFROM b\n")
    image = Image.from_dockerfile(
        tmp_path / "Dockerfile", add_python="3.13.1", registry_secret=Secret.from_name("registry")
    )
    with pytest.raises(DefinitionError) as caught:
        plan(image)
    assert str(caught.value) == (
        f"{image.where}: The Python version must be specified as 'major.minor' for this interface; micro-level "
        "specification ('3.13.1') is not valid. Write add_python='3.13'."
    )


def test_the_secret_of_a_registry_is_for_the_only_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    secret = Secret.from_name("registry")
    image = Image.from_dockerfile("Dockerfile", registry_secret=secret)
    Path("Dockerfile").write_text("FROM r.example/a:1\nRUN b\n")
    assert [layer.login and layer.login.secret for layer in plan(image).layers] == [secret, None]
    Path("Dockerfile").write_text("FROM r.example/a:1\nFROM r.example/b:1\n")
    with pytest.raises(DefinitionError) as caught:
        plan(image)
    assert str(caught.value) == (
        f"{image.where}: from_dockerfile: registry_secret= is for a Dockerfile that begins with its only FROM line, "
        "and Dockerfile does not. Log in with `docker login` instead, which every FROM uses."
    )


def test_dockerfile_commands_are_given_verbatim_after_their_base() -> None:
    step = BASE.dockerfile_commands("RUN a", ["FROM other", "COPY x y"]).steps[-1]
    assert list(step.lines(BUILDER, "3.13")) == ["FROM base", "RUN a", "FROM other", "COPY x y"]


def test_setup_commands_follow_the_from_of_a_registry_image() -> None:
    image = Image.from_registry("a:1", setup_dockerfile_commands=["RUN b", "ENV C=d"])
    assert list(image.steps[0].lines(BUILDER, "3.13")) == ["FROM a:1", "RUN b", "ENV C=d"]
    assert [layer.title for layer in plan(image).layers] == [
        'from_registry("a:1"): base image a:1',
        'from_registry("a:1"): its other lines',
    ]


def test_no_commands_give_the_image_itself() -> None:
    assert BASE.dockerfile_commands() is BASE
    assert BASE.dockerfile_commands([]) is BASE


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        ("build_args", ["A"], "build_args must be a dict of strings, got ['A'] (list)"),
        ("build_args", {"A": 1}, "build_args must be a dict of strings, got 'A': 1"),
        ("context_files", {"/a": Path("b")}, "context_files must be a dict of strings, got '/a': "),
        ("context_dir", 1, "context_dir must be a string or a path, got 1 (int)"),
        ("ignore", 3, "ignore must be a sequence of patterns or a callable that takes a path, got 3 (int)"),
        ("env", {"A": 1}, "the env argument has to be a dict[str, Union[str, None]], value for key 'A' has type int"),
    ],
)
def test_a_wrong_argument_is_said_at_the_call(keyword: str, value: object, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        BASE.dockerfile_commands("RUN a", **{keyword: value})  # type: ignore[arg-type]
    assert f"dockerfile_commands: {message}" in str(caught.value)


def key(folder: Path, text: str, **more: object) -> str:
    (folder / "Dockerfile").write_text(text)
    image = Image.from_dockerfile(folder / "Dockerfile", context_dir=folder, **more)  # type: ignore[arg-type]
    return plan(image).layers[-1].step


def test_comments_and_the_form_of_continuations_enter_no_key(tmp_path: Path) -> None:
    assert key(tmp_path, "FROM a\nRUN b && c\n") == key(tmp_path, "# x\nFROM a\n\nRUN b && \\\n# y\nc\n# end")


@pytest.mark.parametrize(
    "other",
    [
        "FROM a\nRUN b  && c\n",
        "FROM a\nRUN b && c\nENV A=1\n",
        "FROM a\nRUN <<E\nb && c\nE\n",
        "FROM a AS x\nRUN b && c\n",
    ],
)
def test_what_a_file_says_enters_the_key(tmp_path: Path, other: str) -> None:
    assert key(tmp_path, "FROM a\nRUN b && c\n") != key(tmp_path, other)


def test_build_arguments_and_variables_enter_the_key(tmp_path: Path) -> None:
    text = "FROM a\nARG X\nRUN b\n"
    assert (
        len({key(tmp_path, text), key(tmp_path, text, build_args={"X": "1"}), key(tmp_path, text, env={"X": "1"})}) == 3
    )


def test_a_stage_that_nothing_needs_enters_no_key(tmp_path: Path) -> None:
    assert key(tmp_path, "FROM x AS y\nRUN 1\nFROM a AS b\n") == key(tmp_path, "FROM x AS y\nRUN 2\nFROM a AS b\n")


def test_what_the_context_holds_enters_the_key(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("1")
    image = BASE.dockerfile_commands("COPY f /f", context_dir=tmp_path)
    before = plan(image).layers[-1]
    (tmp_path / "f").write_text("2")
    after = plan(image).layers[-1]
    assert before.step == after.step
    assert [entry.sha256 for entry in before.files] != [entry.sha256 for entry in after.files]


MULTI = "FROM one:1 AS a\nRUN true\nFROM two:2 AS unused\nFROM a\nCOPY --from=three:3 /x /x\nRUN false\n"


def test_every_image_that_is_needed_is_pinned_and_brought(tmp_path: Path) -> None:
    world = World(tmp_path)
    (tmp_path / "Dockerfile").write_text(MULTI.replace("RUN false\n", ""))
    image = Image.from_dockerfile(tmp_path / "Dockerfile", context_dir=tmp_path)
    world.builder("first").build(plan(image))
    assert [record.reference for record in world.lockfile().bases] == ["one:1", "three:3"]
    assert world.made() == ['from_registry("one:1")', 'from_registry("three:3")']
    (call,) = [call for call in world.engine.calls if call.name == "build_dockerfile"]
    parent, work, _ = call.arguments
    assert parent is None
    assert isinstance(work, DockerfileWork)
    assert sorted(work.bases) == ["one:1", "three:3"]


def test_a_warm_run_builds_no_dockerfile(tmp_path: Path) -> None:
    world = World(tmp_path)
    (tmp_path / "Dockerfile").write_text(MULTI.replace("RUN false\n", ""))
    image = Image.from_dockerfile(tmp_path / "Dockerfile", context_dir=tmp_path)
    first = world.builder("first").build(plan(image))
    calls = len(world.engine.calls)
    builder = world.builder("second")
    assert builder.warm(plan(image)) == first
    assert [call.name for call in world.engine.calls[calls:] if call.name.startswith(("build", "import", "pin"))] == []


def test_a_new_pin_of_any_image_builds_the_layer_anew(tmp_path: Path) -> None:
    world = World(tmp_path)
    (tmp_path / "Dockerfile").write_text(MULTI.replace("RUN false\n", ""))
    image = Image.from_dockerfile(tmp_path / "Dockerfile", context_dir=tmp_path)
    first = world.builder("first").build(plan(image))
    lockfile = tmp_path / "imagebuild.lock"
    pins = {item.reference: BasePin(digest=item.digest, source=item.source) for item in world.lockfile().bases}
    lockfile.write_text(lockfile.read_text().replace(pins["three:3"].digest, "sha256:" + "0" * 64))
    world.engine.bases = {**pins, "three:3": BasePin(digest="sha256:" + "0" * 64, source="registry")}
    assert world.builder("second").build(plan(image)).labels.key != first.labels.key


def test_the_base_of_a_simple_file_is_the_layer_of_from_registry(tmp_path: Path) -> None:
    world = World(tmp_path)
    (tmp_path / "Dockerfile").write_text("FROM debian:trixie\nRUN x\n")
    builder = world.builder("first")
    base = builder.build(plan(BASE))
    layer = builder.build(plan(Image.from_dockerfile(tmp_path / "Dockerfile")))
    assert layer.labels.parent == base.labels.key


def test_a_run_that_fails_is_said_with_both_lines_of_the_user(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.shell.failing["made to   fail"] = CommandResult(exit_code=4, stderr=b"why\n")
    (tmp_path / "Dockerfile").write_text("# first\nFROM a\nRUN fine\n\nRUN made to \\\n  fail\n")
    image = Image.from_dockerfile("Dockerfile", context_dir=tmp_path)
    step = image.steps[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        planned = plan(image)
        with pytest.raises(StepError) as caught:
            world.builder("run").build(planned)
    assert str(caught.value) == (
        f'{step.where}: from_dockerfile("Dockerfile"): its other lines, Dockerfile:5 failed\n'
        "  command: RUN made to   fail\n"
        "  exit code: 4\n"
        "  end of its output:\n"
        "    why"
    )


def test_a_wrong_line_is_said_with_both_lines_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Dockerfile").write_text("FROM a\nRUN fine\nMAKE it\n")
    image = Image.from_dockerfile("Dockerfile")
    with pytest.raises(DefinitionError) as caught:
        plan(image)
    assert str(caught.value) == (
        f'{image.where}: from_dockerfile("Dockerfile"): Dockerfile:3: MAKE is no instruction of a Dockerfile'
    )
