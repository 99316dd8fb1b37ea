"""The runner of `run_function`, live, in a folder that stands for the container's root."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from pytest_imagebuild import Image
from pytest_imagebuild.build.functions import function_tools
from pytest_imagebuild.plan.builders import load
from pytest_imagebuild.plan.functions import PlannedFunction
from pytest_imagebuild.plan.plan import plan_image

BASE = Image.from_registry("debian:trixie")
TIMEOUT = 60


@dataclass(frozen=True)
class Ended:
    code: int
    printed: str


class Container:
    """A folder that stands for the file system of a container, in which functions are called."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = folder / "host"
        self.root = folder / "container" / "root"
        self.host.mkdir()
        self._home = folder / "container" / "home"
        self._patch = monkeypatch
        monkeypatch.syspath_prepend(self.host)

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.host / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text).lstrip("\n"), "utf-8")

    def module(self, name: str) -> ModuleType:
        for loaded in [known for known in sys.modules if known.partition(".")[0] == name.partition(".")[0]]:
            self._patch.delitem(sys.modules, loaded)
        importlib.invalidate_caches()
        before = set(sys.modules)
        module = importlib.import_module(name)
        for loaded in set(sys.modules) - before:
            # Other tests find none of it.
            self._patch.setitem(sys.modules, loaded, sys.modules.pop(loaded))
        return module

    def call(self, module: str, name: str = "f", **keywords: object) -> Ended:
        """Call a function of a module of the host."""
        function = getattr(self.module(module), name)
        image = BASE.run_function(function, **keywords)  # type: ignore[arg-type]
        planned = plan_image(image, load("2026.10")).layers[-1].function
        assert planned is not None
        return self._run(planned)

    def _run(self, planned: PlannedFunction) -> Ended:
        self._patch.setattr("pytest_imagebuild.build.functions.SOURCE_ROOT", str(self.root))
        self._patch.setattr("pytest_imagebuild.plan.origin.SOURCE_ROOT", str(self.root))
        self._home.mkdir(parents=True, exist_ok=True)
        for tool in function_tools(planned):
            path = self._home / Path(tool.path).name
            path.write_bytes(tool.data or b"")
            path.chmod(tool.mode)
        done = subprocess.run(
            [sys.executable, "-I", "-B", "-u", str(self._home / "run.py")],
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        return Ended(done.returncode, done.stdout)

    def left(self) -> list[str]:
        """Return what is in the container: paths below `/root`."""
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob("*"))


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Container:
    return Container(tmp_path, monkeypatch)


def test_the_function_is_called_in_root_and_what_it_writes_is_all_that_stays(container: Container) -> None:
    container.write(
        {
            "mod.py": """
            import os
            from pathlib import Path

            def f():
                Path("made.txt").write_text("x")
                print(os.getcwd(), Path(__file__).parent, __name__)
            """
        }
    )
    ended = container.call("mod")
    assert ended == Ended(0, f"{container.root} {container.root} mod\n")
    assert container.left() == ["made.txt"]


def test_positional_and_named_arguments_reach_it(container: Container) -> None:
    container.write({"mod.py": "def f(*args, **kwargs):\n    print(args, kwargs)\n"})
    ended = container.call("mod", args=[1, {"a": {2}}], kwargs={"b": None, "a": "x"})
    assert ended == Ended(0, "(1, {'a': {2}}) {'a': 'x', 'b': None}\n")


KINDS = {
    "a coroutine is awaited": "async def f():\n    import asyncio\n    await asyncio.sleep(0)\n    print('done')",
    "a generator runs to its end": "def f():\n    yield 1\n    yield 2\n    print('done')",
    "an asynchronous generator runs to its end": "async def f():\n    yield 1\n    print('done')",
}


@pytest.mark.parametrize("source", KINDS.values(), ids=KINDS)
def test_what_a_call_leaves_to_do_is_done(container: Container, source: str) -> None:
    container.write({"mod.py": source})
    assert container.call("mod") == Ended(0, "done\n")


def test_an_exception_is_told_with_the_path_of_the_host_and_without_our_frames(container: Container) -> None:
    container.write(
        {
            "mod.py": """
            def f():
                try:
                    {}["key"]
                except KeyError as error:
                    raise RuntimeError("no model") from error
            """
        }
    )
    ended = container.call("mod")
    file = container.host / "mod.py"
    assert ended.code == 1
    assert f'File "{file}", line 5, in f\n    raise RuntimeError("no model") from error' in ended.printed
    assert ended.printed.count("Traceback (most recent call last):") == 2
    assert ended.printed.endswith("RuntimeError: no model\n")
    assert "run.py" not in ended.printed
    assert str(container.root) not in ended.printed


def test_an_exception_in_a_package_is_told_with_the_path_of_the_host(container: Container) -> None:
    container.write({"pkg/__init__.py": "", "pkg/deep/__init__.py": "", "pkg/deep/mod.py": "def f():\n    1 / 0\n"})
    assert f'File "{container.host}/pkg/deep/mod.py", line 2, in f' in container.call("pkg.deep.mod").printed
    assert container.left() == []


def test_a_package_comes_whole_with_its_data_and_leaves_whole(container: Container) -> None:
    container.write(
        {
            "pkg/__init__.py": "",
            "pkg/data/words.txt": "one two\n",
            "pkg/.hidden/x.py": "",
            "pkg/other.py": "NAME = 'other'\n",
            "pkg/mod.py": """
            from pathlib import Path
            from . import other

            def f():
                here = Path(__file__).parent
                print(other.NAME, (here / "data/words.txt").read_text().strip(), (here / ".hidden").exists())
                (here / "kept.txt").touch()
            """,
        }
    )
    assert container.call("pkg.mod") == Ended(0, "other one two False\n")
    assert container.left() == ["pkg", "pkg/kept.txt"]


def test_a_file_of_the_image_comes_back_as_it_was(container: Container) -> None:
    container.write({"mod.py": "def f():\n    print('new')\n"})
    container.root.mkdir(parents=True)
    old = container.root / "mod.py"
    old.write_text("def f():\n    print('old')\n")
    old.chmod(0o640)
    before = old.stat()
    assert container.call("mod") == Ended(0, "new\n")
    after = old.stat()
    assert old.read_text() == "def f():\n    print('old')\n"
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert container.left() == ["mod.py"]


def test_the_same_file_of_the_image_is_not_touched(container: Container) -> None:
    container.write({"mod.py": "def f():\n    print('same')\n"})
    container.root.mkdir(parents=True)
    own = container.root / "mod.py"
    own.write_text("def f():\n    print('same')\n")
    before = own.stat()
    assert container.call("mod") == Ended(0, "same\n")
    after = own.stat()
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


def test_what_a_child_process_compiles_does_not_stay(container: Container) -> None:
    container.write(
        {
            "mod.py": """
            import subprocess, sys

            def f():
                code = "import sys; sys.path.insert(0, sys.argv[1]); import mod; print(mod.__cached__ is not None)"
                from pathlib import Path
                subprocess.run([sys.executable, "-I", "-c", code, str(Path(__file__).parent)], check=True)
                assert Path(__file__).with_name("__pycache__").exists()
            """
        }
    )
    assert container.call("mod") == Ended(0, "True\n")
    assert container.left() == []


@pytest.mark.parametrize(("end", "code"), [("os._exit(0)", 0), ("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", 137)])
def test_however_it_ends_nothing_stays(container: Container, end: str, code: int) -> None:
    container.write({"mod.py": f"import os, sys\n\ndef f():\n    {end}\n"})
    assert container.call("mod") == Ended(code, "")
    assert container.left() == []


def test_the_module_may_import_pytest_and_this_package(container: Container) -> None:
    container.write(
        {
            "test_mod.py": """
            import pytest
            import pytest_imagebuild
            from pytest_imagebuild import Image

            def f():
                print(pytest.__file__.rpartition("/site-packages/")[2], pytest_imagebuild.__file__)

            image = Image.debian_slim("3.13").run_function(f)

            @pytest.mark.image(image)
            def test_it(): pass
            """
        }
    )
    # This Python has a pytest of its own, which wins over the one that comes along.
    ended = container.call("test_mod")
    assert ended.code == 0, ended.printed
    assert ended.printed.startswith("pytest/__init__.py ")


def test_pytest_and_this_package_can_be_imported_from_the_file_that_comes_along(container: Container) -> None:
    container.write({"mod.py": "def f(): pass\n"})
    container.call("mod")
    archive = container.root.parent / "home" / "runtime.zip"
    code = (
        f"import sys; sys.path.append({str(archive)!r}); import pytest; from pytest_imagebuild import Image; "
        "print(pytest.__file__, Image.debian_slim('3.13'))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == f'{archive}/pytest/__init__.py Image.debian_slim("3.13")\n', done.stderr


def test_a_module_that_is_not_there_is_told_of_with_what_helps(container: Container) -> None:
    container.write({"other.py": "", "mod.py": "import other\n\ndef f(): pass\n"})
    ended = container.call("mod")
    assert ended.code == 1
    assert ended.printed == (
        "Traceback (most recent call last):\n"
        f'  File "{container.host}/mod.py", line 1, in <module>\n'
        "    import other\n"
        "ModuleNotFoundError: No module named 'other'\n"
        "imagebuild: the container of this step has the packages of its image, pytest, and "
        f"{container.root}/mod.py. Install packages before run_function; add other modules of yours with "
        '.add_local_python_source("NAME", copy=True) before it; an import that only tests need can stand in '
        "`with image.imports():`.\n"
    )


def test_without_its_source_the_image_must_have_the_module(container: Container) -> None:
    container.write({"mod.py": "def f(): print('of the host')\n"})
    ended = container.call("mod", include_source=False)
    assert ended.code == 1
    assert "ModuleNotFoundError: No module named 'mod'" in ended.printed
    assert "imagebuild: the source of the function is not put into the container of this step" in ended.printed
    container.root.mkdir()
    (container.root / "mod.py").write_text("def f(): print('of the image')\n")
    assert container.call("mod", include_source=False) == Ended(0, "of the image\n")
