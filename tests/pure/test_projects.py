"""Local files that say what to install: how they are read, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from doubles import BASE, plan

from pytest_imagebuild import DefinitionError, Image, LocalFileError
from pytest_imagebuild.image.steps.pip import PipInstall
from pytest_imagebuild.image.steps.pip_options import PipOptions
from pytest_imagebuild.plan.plan import PlannedLayer

PROJECT = """
[project]
name = "shop"
version = "1"
dependencies = ["b>=1", "a[x]; python_version > '3'"]
[project.optional-dependencies]
web = ["flask"]
dev = ["pytest"]
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def top(image: Image) -> PlannedLayer:
    return plan(image).layers[-1]


def wrong(image: Image) -> str:
    with pytest.raises(DefinitionError) as caught:
        plan(image)
    assert caught.value.where == image.steps[-1].where
    return str(caught.value).partition(": ")[2]


# pip_install_from_requirements ---------------------------------------------------------------------------------------


def test_a_requirements_file_is_lent_to_pip_and_enters_the_identity() -> None:
    Path("r.txt").write_text("six\n")
    image = BASE.pip_install_from_requirements("r.txt")
    before = top(image)
    assert [(entry.path, entry.mode) for entry in before.tools] == [("/.requirements.txt", 0o644)]
    assert before.files == ()
    Path("r.txt").write_text("six<2\n")
    assert top(image).definition != before.definition
    assert top(image).step == before.step


def test_where_a_requirements_file_lies_does_not_matter() -> None:
    Path("d").mkdir()
    for name in ("r.txt", "d/other.txt"):
        Path(name).write_text("six\n")
    one, other = (top(BASE.pip_install_from_requirements(name)) for name in ("r.txt", "d/other.txt"))
    assert (one.step, one.definition) == (other.step, other.definition)


def test_a_missing_requirements_file_is_named_with_its_whole_path(tmp_path: Path) -> None:
    said = wrong(BASE.pip_install_from_requirements("r.txt"))
    assert said == f"pip_install_from_requirements: requirements file {tmp_path}/r.txt does not exist."


def test_a_missing_requirements_file_of_uv_is_named_with_its_whole_path(tmp_path: Path) -> None:
    said = wrong(BASE.uv_pip_install("a", requirements=["r.txt"]))
    assert said == f"uv_pip_install: requirements file {tmp_path}/r.txt does not exist."


def test_requirements_files_of_one_name_are_lent_to_uv_side_by_side() -> None:
    for folder, text in (("a", "six\n"), ("b", "idna\n")):
        Path(folder).mkdir()
        Path(folder, "r.txt").write_text(text)
    layer = top(BASE.uv_pip_install(requirements=["a/r.txt", "b/r.txt"]))
    lent = {entry.path: entry.source and entry.source.read_text() for entry in layer.tools}
    assert lent == {"/.uv/0/r.txt": "six\n", "/.uv/1/r.txt": "idna\n"}


def test_the_home_of_the_user_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "r.txt").write_text("six\n")
    assert top(BASE.pip_install_from_requirements("~/r.txt")).tools[0].source == tmp_path / "r.txt"


# pip_install_from_pyproject ------------------------------------------------------------------------------------------


def test_the_dependencies_of_a_project_are_installed_sorted_as_pip_install_does() -> None:
    Path("pyproject.toml").write_text(PROJECT)
    layer = top(BASE.pip_install_from_pyproject("pyproject.toml", ["web"], index_url="https://i", pre=True))
    options = PipOptions(index_url="https://i", pre=True)
    wanted = PipInstall(packages=("a[x]; python_version > '3'", "b>=1", "flask"), options=options)
    assert layer.instructions == (wanted,)
    assert layer.tools == ()


def test_what_of_a_project_is_not_installed_does_not_enter_the_identity() -> None:
    Path("pyproject.toml").write_text(PROJECT)
    image = BASE.pip_install_from_pyproject("pyproject.toml")
    before = top(image)
    Path("pyproject.toml").write_text(PROJECT.replace('version = "1"', 'version = "2"').replace("pytest", "nose"))
    assert top(image).definition == before.definition
    Path("pyproject.toml").write_text(PROJECT.replace("b>=1", "b>=2"))
    assert top(image).definition != before.definition


def test_a_group_that_the_project_lacks_is_refused_with_those_that_it_has(tmp_path: Path) -> None:
    Path("pyproject.toml").write_text(PROJECT)
    said = wrong(BASE.pip_install_from_pyproject("pyproject.toml", ["docs"]))
    assert said == (
        f"pip_install_from_pyproject: {tmp_path}/pyproject.toml has no optional dependencies named docs; it has web, "
        "dev."
    )


def test_a_group_of_a_project_without_groups_is_refused(tmp_path: Path) -> None:
    Path("pyproject.toml").write_text("[project]\ndependencies = []\n")
    said = wrong(BASE.pip_install_from_pyproject("pyproject.toml", ["docs"]))
    assert said.endswith("has no optional dependencies named docs; it has none.")


def test_a_project_without_dependencies_is_sent_to_the_method_for_poetry(tmp_path: Path) -> None:
    Path("pyproject.toml").write_text("[tool.poetry]\n")
    assert wrong(BASE.pip_install_from_pyproject("pyproject.toml")) == (
        f"pip_install_from_pyproject: {tmp_path}/pyproject.toml has no [project].dependencies. For a project of "
        "Poetry's own form, use poetry_install_from_file."
    )


def test_a_missing_or_broken_project_file_is_named(tmp_path: Path) -> None:
    image = BASE.pip_install_from_pyproject("pyproject.toml")
    assert wrong(image) == f"pip_install_from_pyproject: project file {tmp_path}/pyproject.toml does not exist."
    Path("pyproject.toml").write_text("[project\n")
    assert wrong(image).startswith(f"pip_install_from_pyproject: {tmp_path}/pyproject.toml cannot be read: ")


# uv_sync -------------------------------------------------------------------------------------------------------------


def test_a_uv_project_with_a_lockfile_leaves_nothing_open() -> None:
    Path("pyproject.toml").write_text(PROJECT)
    Path("uv.lock").write_text("version = 1\n")
    layer = top(BASE.uv_sync())
    assert layer.install is None
    assert [entry.path for entry in layer.tools] == ["/.uv/pyproject.toml", "/.uv/uv.lock"]
    assert [line for item in layer.instructions for line in item.lines(plan(BASE).builder)] == [
        "COPY --from=ghcr.io/astral-sh/uv:0.13.9 /uv /.uv/uv",
        "COPY /.pyproject.toml /.uv/pyproject.toml",
        "COPY /.uv.lock /.uv/uv.lock",
        "RUN /.uv/uv sync --project=/.uv --no-install-workspace --compile-bytecode --frozen",
        "ENV PATH=/.uv/.venv/bin:$PATH",
    ]


@pytest.mark.parametrize(("lock", "frozen"), [(False, True), (True, False)])
def test_a_uv_project_whose_lockfile_does_not_decide_is_pinned(lock: bool, frozen: bool) -> None:
    Path("pyproject.toml").write_text(PROJECT)
    if lock:
        Path("uv.lock").write_text("version = 1\n")
    image = BASE.uv_sync(frozen=frozen)
    assert top(image).install is not None
    assert "--frozen" not in "".join(
        line for item in top(image).instructions for line in item.lines(plan(BASE).builder)
    )


def test_where_a_uv_project_lies_does_not_matter(tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        (folder / "pyproject.toml").write_text(PROJECT)
    assert top(BASE.uv_sync("a")).definition == top(BASE.uv_sync(tmp_path / "b")).definition


def test_the_lockfile_of_a_uv_project_enters_the_identity() -> None:
    Path("pyproject.toml").write_text(PROJECT)
    image = BASE.uv_sync()
    found = {top(image).definition}
    for text in ("version = 1\n", "version = 1\nrevision = 2\n"):
        Path("uv.lock").write_text(text)
        found.add(top(image).definition)
    assert len(found) == 3


def test_a_folder_that_is_no_uv_project_is_refused(tmp_path: Path) -> None:
    assert wrong(BASE.uv_sync("nowhere")) == (
        f"uv_sync: Expected {tmp_path}/nowhere/pyproject.toml to exist. Give the project's folder as uv_project_dir."
    )


def test_a_uv_workspace_is_refused(tmp_path: Path) -> None:
    Path("pyproject.toml").write_text(PROJECT + "[tool.uv.workspace]\nmembers = []\n")
    assert wrong(BASE.uv_sync()) == (
        f"uv_sync: uv workspaces are not supported, and {tmp_path}/pyproject.toml has [tool.uv.workspace]. Name the "
        "packages with uv_pip_install, or export them: `uv export --format requirements.txt`."
    )


# poetry_install_from_file --------------------------------------------------------------------------------------------


def test_the_lockfile_beside_a_poetry_project_decides() -> None:
    Path("pyproject.toml").write_text("[tool.poetry]\n")
    Path("poetry.lock").write_text("package = []\n")
    image = BASE.poetry_install_from_file("pyproject.toml")
    layers = plan(image).layers
    assert layers[-2].install == PipInstall(packages=("poetry",))
    assert layers[-1].install is None
    assert [entry.path for entry in layers[-1].tools] == ["/tmp/poetry/pyproject.toml", "/tmp/poetry/poetry.lock"]


def test_a_poetry_project_whose_lockfile_is_ignored_is_pinned() -> None:
    Path("pyproject.toml").write_text("[tool.poetry]\n")
    layer = top(BASE.poetry_install_from_file("pyproject.toml", ignore_lockfile=True))
    assert layer.install is not None
    assert [entry.path for entry in layer.tools] == ["/tmp/poetry/pyproject.toml"]


def test_a_poetry_lockfile_elsewhere_is_taken_when_it_is_named() -> None:
    Path("pyproject.toml").write_text("[tool.poetry]\n")
    Path("other.lock").write_text("package = []\n")
    layer = top(BASE.poetry_install_from_file("pyproject.toml", "other.lock"))
    assert layer.tools[-1].path == "/tmp/poetry/poetry.lock"


def test_a_missing_poetry_lockfile_is_refused_with_the_ways_out(tmp_path: Path) -> None:
    Path("pyproject.toml").write_text("[tool.poetry]\n")
    image = BASE.poetry_install_from_file("pyproject.toml")
    with pytest.raises(LocalFileError):
        plan(image)
    assert wrong(image) == (
        f"poetry_install_from_file: poetry.lock not found at inferred location: {tmp_path}/poetry.lock. Run `poetry "
        "lock` and commit the file, name it with poetry_lockfile=, or pass ignore_lockfile=True."
    )


def test_a_missing_poetry_project_is_named(tmp_path: Path) -> None:
    said = wrong(BASE.poetry_install_from_file("pyproject.toml"))
    assert said == f"poetry_install_from_file: the project file {tmp_path}/pyproject.toml does not exist."


def test_an_image_without_poetry_of_its_own_needs_no_layer_for_it() -> None:
    Path("pyproject.toml").write_text("[tool.poetry]\n")
    image = BASE.poetry_install_from_file("pyproject.toml", ignore_lockfile=True, poetry_version=None)
    assert len(plan(image).layers) == len(plan(BASE).layers) + 1


def test_the_layers_of_a_poetry_project_are_told_apart_by_what_they_run() -> None:
    Path("pyproject.toml").write_text("[tool.poetry]\n")
    image = BASE.poetry_install_from_file("pyproject.toml", ignore_lockfile=True)
    called = 'poetry_install_from_file("pyproject.toml"): '
    assert [layer.title for layer in plan(image).layers[1:]] == [
        f"{called}python -m pip install poetry",
        f"{called}poetry install --no-root --compile",
    ]


def test_the_layer_of_an_added_python_is_named() -> None:
    image = Image.from_registry("debian:trixie", add_python="3.13")
    assert [layer.title.partition(": ")[2] for layer in plan(image).layers] == [
        "base image debian:trixie",
        "COPY /python/. /usr/local",
    ]
