"""What of a function decides its layer: which change builds it anew, and which does not."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from doubles import BASE, plan

from pytest_imagebuild import DefinitionError, Image, Secret, Volume
from pytest_imagebuild.plan.plan import PlannedLayer

FILES = {
    "mod.py": """
        import functools
        import json
        import os
        import threading
        from collections import namedtuple

        SIZE = 3
        UNUSED = 1
        NAMES = {"b", "a", "c"}
        TABLE = {"first": lambda x: x + 1}
        LOCK = threading.Lock()
        Point = namedtuple("Point", "x y")

        def timed(function):
            @functools.wraps(function)
            def wrapper(*args):
                return function(*args)
            return wrapper

        class Model:
            weights = SIZE

            def load(self):
                return helper()

        class Other:
            pass

        MODEL = Model()

        def helper():
            return deeper() + SIZE

        def deeper():
            return 1

        def unrelated():
            return "unrelated"

        @functools.lru_cache
        def cached():
            return "cached"

        @timed
        def f(size=SIZE):
            # fetch it
            return helper(), json.dumps(sorted(NAMES)), os.environ.get("HOME")

        def uses_class():
            return Model().load()

        def uses_instance():
            return MODEL.weights

        def uses_table():
            return [TABLE["first"](1), Point(1, 2)]

        def uses_cached():
            return cached()

        def uses_lock():
            with LOCK:
                return SIZE

        def uses_file():
            return __file__
        """,
    "pkg/__init__.py": "",
    "pkg/main.py": """
        from pkg import other
        from . import whole

        def f():
            from pkg.late import fetch
            import pkg.never_loaded
            return other.used(), fetch(), getattr(whole, "anything")
        """,
    "pkg/other.py": """
        from pkg.third import third

        def used():
            return third()

        def unused():
            return 1
        """,
    "pkg/third.py": "def third():\n    return 3\n\ndef fourth():\n    return 4\n",
    "pkg/whole.py": "anything = 1\n",
    "pkg/late.py": "def fetch():\n    return 'late'\n",
    "pkg/never_loaded.py": "from pkg import below\n",
    "pkg/below.py": "x = 1\n",
    "pkg/nobody.py": "x = 1\n",
}


class Project:
    """Files of a user, imported anew each time that something of them is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in FILES.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(text).lstrip("\n"), "utf-8")

    def change(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), "utf-8")

    def layer(self, module: str = "mod", name: str = "f", **keywords: object) -> PlannedLayer:
        self.forget()
        function = getattr(importlib.import_module(module), name)
        return plan(BASE.run_function(function, **keywords)).layers[-1]  # type: ignore[arg-type]

    def step(self, module: str = "mod", name: str = "f", **keywords: object) -> str:
        return self.layer(module, name, **keywords).step

    @staticmethod
    def forget() -> None:
        import linecache

        for loaded in [known for known in sys.modules if known.partition(".")[0] in ("mod", "pkg")]:
            del sys.modules[loaded]
        importlib.invalidate_caches()
        linecache.clearcache()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Project(tmp_path)
    Project.forget()


REBUILDS = {
    "its own body": ("mod", "f", "mod.py", "# fetch it", "# fetch them"),
    "a helper": ("mod", "f", "mod.py", "deeper() + SIZE", "deeper() - SIZE"),
    "what a helper calls": ("mod", "f", "mod.py", "return 1\n", "return 2\n"),
    "a constant that a helper reads": ("mod", "f", "mod.py", "SIZE = 3", "SIZE = 4"),
    "a set that it reads": ("mod", "f", "mod.py", '"c"}', '"d"}'),
    "its decorator": ("mod", "f", "mod.py", "return function(*args)", "return function(*args) or None"),
    "a method of a class": ("mod", "uses_class", "mod.py", "return helper()\n\nclass", "return -helper()\n\nclass"),
    "what a method calls": ("mod", "uses_class", "mod.py", "return 1\n", "return 2\n"),
    "the class of an instance": ("mod", "uses_instance", "mod.py", "return helper()\n\nclass", "return 0\n\nclass"),
    "a lambda in a table": ("mod", "uses_table", "mod.py", "x + 1", "x + 2"),
    "a cached helper": ("mod", "uses_cached", "mod.py", 'return "cached"', 'return "kept"'),
    "what it reads beside a lock": ("mod", "uses_lock", "mod.py", "SIZE = 3", "SIZE = 4"),
    "a function of another module": (
        "pkg.main",
        "f",
        "pkg/other.py",
        "third()\n\ndef",
        "-third()\n\ndef",
    ),
    "what that one imports": ("pkg.main", "f", "pkg/third.py", "return 3", "return 33"),
    "a module that it looks into by name": ("pkg.main", "f", "pkg/whole.py", "= 1", "= 2"),
    "a function that it imports itself": ("pkg.main", "f", "pkg/late.py", "'late'", "'later'"),
    "a module that only the container loads": ("pkg.main", "f", "pkg/never_loaded.py", "below", "below  # x"),
    "what that one imports in turn": ("pkg.main", "f", "pkg/below.py", "1", "2"),
}
KEEPS = {
    "an unrelated function": ("mod", "f", "mod.py", '"unrelated"', '"another"'),
    "a constant that nobody reads": ("mod", "f", "mod.py", "UNUSED = 1", "UNUSED = 2"),
    "a class that nobody uses": ("mod", "f", "mod.py", "class Other:\n    pass", "class Other:\n    x = 1"),
    "the order of a set": ("mod", "f", "mod.py", '{"b", "a", "c"}', '{"c", "b", "a"}'),
    "lines above": ("mod", "f", "mod.py", "import functools", "# one\n# two\nimport functools"),
    "the body of a helper of another function": ("mod", "uses_lock", "mod.py", "return 1\n", "return 2\n"),
    "an unrelated function of another module": ("pkg.main", "f", "pkg/other.py", "return 1", "return 2"),
    "a function beside the one that is called": ("pkg.main", "f", "pkg/third.py", "return 4", "return 5"),
    "a module of its package that nobody imports": ("pkg.main", "f", "pkg/nobody.py", "1", "2"),
}


@pytest.mark.filterwarnings("ignore:run_function:UserWarning")
@pytest.mark.parametrize(("module", "name", "file", "old", "new"), REBUILDS.values(), ids=REBUILDS)
def test_a_change_of_this_builds_anew_and_restoring_it_restores_the_layer(
    project: Project, module: str, name: str, file: str, old: str, new: str
) -> None:
    before = project.step(module, name)
    project.change(file, old, new)
    assert project.step(module, name) != before
    project.change(file, new, old)
    assert project.step(module, name) == before


@pytest.mark.filterwarnings("ignore:run_function:UserWarning")
@pytest.mark.parametrize(("module", "name", "file", "old", "new"), KEEPS.values(), ids=KEEPS)
def test_a_change_of_this_keeps_the_layer(
    project: Project, module: str, name: str, file: str, old: str, new: str
) -> None:
    before = project.step(module, name)
    project.change(file, old, new)
    assert project.step(module, name) == before


ARGUMENTS: Mapping[str, tuple[dict[str, object], bool]] = {
    "args": ({"args": (1,)}, True),
    "kwargs": ({"kwargs": {"size": 1}}, True),
    "env": ({"env": {"A": "1"}}, True),
    "secrets": ({"secrets": [Secret.from_dict({"A": "t0ken"})]}, True),
    "volumes": ({"volumes": {"/models": Volume.from_name("models")}}, True),
    "gpu": ({"gpu": ["H100", "A100"]}, True),
    "cpu": ({"cpu": 2.0}, False),
    "memory": ({"memory": 512}, False),
    "timeout": ({"timeout": 5}, False),
    "include_source": ({"include_source": False}, False),
    "cloud and region": ({"cloud": "aws", "region": "eu-west-1"}, False),
}


@pytest.mark.parametrize(("keywords", "rebuilds"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_what_it_is_called_with_decides_and_what_it_may_use_does_not(
    project: Project, keywords: dict[str, object], rebuilds: bool
) -> None:
    assert (project.step() != project.step("mod", "f", **keywords)) == rebuilds


def test_another_value_of_a_secret_means_nothing(project: Project) -> None:
    one, other = (project.step(secrets=[Secret.from_dict({"A": value})]) for value in ("t0ken", "another"))
    assert one == other


def test_the_order_of_named_arguments_means_nothing(project: Project) -> None:
    assert project.step(kwargs={"a": 1, "b": {1, 2}}) == project.step(kwargs={"b": {2, 1}, "a": 1})


def test_the_code_is_no_part_of_what_names_the_lock_record(project: Project) -> None:
    before = project.layer()
    project.change("mod.py", "deeper() + SIZE", "deeper() - SIZE")
    after = project.layer()
    assert (after.definition == before.definition, after.step == before.step) == (True, False)
    assert project.layer(args=(1,)).definition != before.definition


def test_where_the_project_lies_is_no_part_of_it(project: Project, tmp_path: Path) -> None:
    step = project.step(), project.step("pkg.main"), project.step(name="uses_file")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = Project(elsewhere)
    sys.path.insert(0, str(elsewhere))  # the fixture takes it back
    assert (other.step(), other.step("pkg.main"), other.step(name="uses_file")) == step


CODE = """
import mod
from pytest_imagebuild import Image
from pytest_imagebuild.plan.builders import load
from pytest_imagebuild.plan.plan import plan_image
image = Image.from_registry("debian:trixie").run_function(mod.f, args=({"x", "y", "z"}, 1.5, b"a"))
print(plan_image(image, load("2026.10")).layers[-1].step, image.definition)
"""


def test_it_is_the_same_in_every_process(project: Project) -> None:
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = {
        subprocess.run(
            [sys.executable, "-c", CODE],
            env={**variables, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(told) == 1


def test_it_never_changes(project: Project) -> None:
    """Golden values: another one builds every function's layer of every user anew."""
    assert project.step() == "69acfffc57409b6649b014a0f4467de0cac17d144a3216589b1115e4ec7ad78e"
    assert project.step("pkg.main") == "4422833a59f4b0fbbcac564a3d6c370ee01bea249bb8e01445b615343f5d497c"


def test_a_constant_without_a_value_gives_a_warning_at_the_call(project: Project) -> None:
    sentence = (
        r"^run_function: uses_lock refers to mod\.py:LOCK, whose value cannot be part of the layer's key: a lock "
        r"cannot be written: .*\. When it changes, nothing is built anew$"
    )
    with pytest.warns(UserWarning, match=sentence) as caught:
        project.step(name="uses_lock")
    assert caught[0].filename == __file__


@pytest.mark.filterwarnings("error")
def test_where_warnings_are_errors_it_is_an_error_of_the_definition(project: Project) -> None:
    with pytest.raises(DefinitionError, match=r"run_function: uses_lock refers to mod\.py:LOCK") as caught:
        project.step(name="uses_lock")
    assert caught.value.where is not None


def test_it_is_the_same_for_a_module_of_a_package_that_was_loaded_by_its_path(project: Project) -> None:
    step = project.step("pkg.other", "used")
    spec = importlib.util.spec_from_file_location("other", project.folder / "pkg" / "other.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    layer = plan(BASE.run_function(module.used)).layers[-1]
    assert layer.step == step
    assert layer.function is not None
    assert (layer.function.origin.module, layer.function.origin.package) == ("pkg.other", "pkg")


def test_an_installed_function_is_known_by_its_name_because_the_image_has_its_own() -> None:
    layer = plan(BASE.run_function(textwrap.dedent, args=("x",))).layers[-1]
    assert layer.function is not None
    assert (layer.function.origin.installed, layer.function.origin.files()) == (True, ())


def test_two_files_of_one_name_give_two_layers(tmp_path: Path) -> None:
    images = []
    for number in range(2):
        file = tmp_path / str(number) / "conftest.py"
        file.parent.mkdir()
        file.write_text(f"def fill():\n    return {number}\n")
        scope: dict[str, object] = {"__name__": "conftest"}
        exec(compile(file.read_text(), str(file), "exec"), scope)
        images.append(BASE.run_function(scope["fill"]))  # type: ignore[arg-type]
    first, second = images
    assert first != second
    assert first.definition == second.definition
    assert plan(first).layers[-1].step != plan(second).layers[-1].step


def test_a_function_that_is_defined_anew_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "twice.py").write_text("def f(): return 1\nfirst = f\ndef f(): return 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    image: Image = BASE.run_function(importlib.import_module("twice").first)
    monkeypatch.delitem(sys.modules, "twice")
    with pytest.raises(DefinitionError) as caught:
        plan(image)
    assert str(caught.value).endswith(
        ": run_function: f is another function by the end of twice.py, where line 3 defines it anew. "
        "Give one of the two another name"
    )


def test_a_function_that_is_gone_from_its_module_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone.py").write_text("def f(): return 1\nkept = f\ndel f\n")
    monkeypatch.syspath_prepend(tmp_path)
    image = BASE.run_function(importlib.import_module("gone").kept)
    monkeypatch.delitem(sys.modules, "gone")
    with pytest.raises(DefinitionError, match=r"run_function: gone\.py has no f at its top level\. In the container"):
        plan(image)


def test_a_function_without_a_file_is_refused() -> None:
    scope: dict[str, object] = {"__name__": "typed"}
    exec(compile("def f(): pass", "<stdin>", "exec"), scope)
    with pytest.raises(DefinitionError) as caught:
        plan(BASE.run_function(scope["f"]))  # type: ignore[arg-type]
    assert str(caught.value).endswith(
        ": run_function: the source of f cannot be read from <stdin>. Define it in a Python file, "
        "which is imported in the container"
    )
