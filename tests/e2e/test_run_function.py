"""`run_function`, as a user meets it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from engines import EngineUnderTest
from inner import Inner, Ran, failure_of, outcomes

PROJECT = {
    "pytest.ini": "[pytest]\n",
    "test_it.py": """
        import asyncio
        import os
        import sys
        from pathlib import Path

        import pytest
        from pytest_imagebuild import Image

        BASE = Image.from_registry("python:3.13-slim-trixie").env({"NONCE": "@NONCE@"})
        WORDS = ["one", "two"]


        def fetch(name, *, sizes=()):
            print("fetching", name)
            print("to stderr", file=sys.stderr)
            Path("/models").mkdir()
            Path("/models/model.txt").write_text(f"{name} {sorted(sizes)} {helper()}")
            Path("relative.txt").write_text(os.environ["TOKEN"])


        def helper():
            return " ".join(WORDS)


        def unrelated():
            return 1


        async def later():
            await asyncio.sleep(0)
            Path("/later.txt").write_text("awaited")


        def steps():
            for number in range(3):
                Path(f"/step{number}").touch()
                yield number


        image = (
            BASE.run_function(fetch, args=("bert",), kwargs={"sizes": {2, 1}}, env={"TOKEN": "t"})
            .run_function(later)
            .run_function(steps)
        )


        @pytest.mark.image(image)
        def test_files_are_in_the_layer():
            assert Path("/models/model.txt").read_text() == "bert [1, 2] one two"
            assert Path("/root/relative.txt").read_text() == "t"
            assert Path("/later.txt").read_text() == "awaited"
            assert [Path(f"/step{n}").exists() for n in range(4)] == [True, True, True, False]


        @pytest.mark.image(image)
        def test_nothing_else_is_in_the_layer():
            assert sorted(path.name for path in Path("/root").rglob("*") if path.name[0] != ".") == ["relative.txt"]
            assert not Path("/.imagebuild-function").exists()
            assert "TOKEN" not in os.environ


        def test_on_the_host():
            assert helper() == "one two"
        """,
}


@pytest.fixture
def project(tmp_path: Path, engine: EngineUnderTest, nonce: str) -> Inner:
    return Inner(tmp_path, engine).write({name: text.replace("@NONCE@", nonce) for name, text in PROJECT.items()})


def change(project: Inner, old: str, new: str, name: str = "test_it.py") -> None:
    path = project.folder / name
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


def summary(ran: Ran) -> str:
    return next(line for line in ran.lines if "layers: reused" in line)


def test_what_functions_write_is_in_the_layer_and_nothing_else_is(project: Inner) -> None:
    ran = project.run("-v")
    assert outcomes(ran) == {
        "test_files_are_in_the_layer": "PASSED",
        "test_nothing_else_is_in_the_layer": "PASSED",
        "test_on_the_host": "PASSED",
    }, ran.text
    assert "fetching bert" in ran.text
    assert "to stderr" in ran.text


def test_a_change_of_a_helper_builds_anew_and_one_of_an_unrelated_function_does_not(project: Inner) -> None:
    assert project.run("--image-build-only").code == 0
    change(project, "return 1", "return 2")
    ran = project.run("-v", "-k", "on_the_host or nothing_else")
    assert "built 0" in summary(ran), ran.text
    change(project, 'return " ".join(WORDS)', 'return "-".join(WORDS)')
    ran = project.run("-v", "-k", "files")
    assert outcomes(ran) == {"test_files_are_in_the_layer": "FAILED"}, ran.text
    assert "run_function(fetch): the step changed" in ran.text
    assert "one-two" in ran.text
    change(project, '"-".join(WORDS)', '" ".join(WORDS)')
    ran = project.run("-v", "-k", "files")
    assert ran.code == 0, ran.text
    assert "built 0" in summary(ran), ran.text


FAILS = {
    "pytest.ini": "[pytest]\n",
    "pkg/__init__.py": "",
    "pkg/data.txt": "some data\n",
    "pkg/build.py": """
        from pathlib import Path

        from .deep.more import explode

        def prepare():
            print("reads", (Path(__file__).parent / "data.txt").read_text().strip())
            explode()
        """,
    "pkg/deep/__init__.py": "",
    "pkg/deep/more.py": "def explode():\n    raise RuntimeError('no weights')\n",
    "conftest.py": """
        import pytest
        from pytest_imagebuild import Image

        BASE = Image.from_registry("python:3.13-slim-trixie").env({"NONCE": "@NONCE@"})

        def in_conftest():
            print(pytest.__version__, __file__)

        FROM_CONFTEST = BASE.run_function(in_conftest)
        """,
    "test_fails.py": """
        import ctypes
        import time

        import pytest
        from pytest_imagebuild import Image

        from conftest import BASE, FROM_CONFTEST
        from pkg.build import prepare


        @pytest.mark.image(BASE.run_function(prepare))
        def test_package(): pass


        @pytest.mark.image(FROM_CONFTEST)
        def test_conftest(): pass
        """,
    "test_limits.py": """
        import time

        import pytest
        from pytest_imagebuild import Image

        BASE = Image.from_registry("python:3.13-slim-trixie").env({"NONCE": "@NONCE@"})


        def sleep():
            print("it sleeps now")
            time.sleep(600)


        def eat(name):
            held = [bytearray(10 << 20) for _ in range(60)]
            print("ate all", len(held))


        @pytest.mark.image(BASE.run_function(sleep, timeout=15))
        def test_timeout(): pass


        @pytest.mark.image(BASE.run_function(eat, args=("memory",), memory=150))
        def test_memory(): pass


        @pytest.mark.image(BASE.run_function(eat, args=("enough",), memory=1500, cpu=1.0))
        def test_enough(): pass
        """,
    "shipped/lib.py": "def prepare():\n    print('called from', __file__)\n",
    "test_source.py": """
        import sys

        import pytest
        from pytest_imagebuild import Image

        sys.path.insert(0, __file__.rpartition("/")[0] + "/shipped")
        import lib

        BASE = Image.from_registry("python:3.13-slim-trixie").env({"NONCE": "@NONCE@"})
        OWN = BASE.add_local_file("shipped/lib.py", "/opt/extra/lib.py", copy=True).env({"PYTHONPATH": "/opt/extra"})


        @pytest.mark.image(BASE.run_function(lib.prepare, include_source=False))
        def test_without(): pass


        @pytest.mark.image(OWN.run_function(lib.prepare, include_source=False))
        def test_of_the_image(): pass
        """,
}


@pytest.fixture
def failing(tmp_path: Path, engine: EngineUnderTest, nonce: str) -> Inner:
    return Inner(tmp_path, engine).write({name: text.replace("@NONCE@", nonce) for name, text in FAILS.items()})


def test_a_traceback_is_in_the_files_of_the_user_and_a_package_comes_whole(failing: Inner) -> None:
    ran = failing.run("-v", "test_fails.py")
    assert outcomes(ran) == {"test_package": "ERROR", "test_conftest": "PASSED"}, ran.text
    text = failure_of(ran, "ERROR at setup of test_package")
    assert f"{failing.folder}/test_fails.py:11: run_function(prepare) failed" in text
    assert "command: build.py: prepare()" in text
    assert "exit code: 1" in text
    assert "reads some data" in text
    assert f'File "{failing.folder}/pkg/build.py", line 7, in prepare' in text
    assert f'File "{failing.folder}/pkg/deep/more.py", line 2, in explode' in text
    assert "RuntimeError: no weights" in text
    assert "/root/" not in text
    assert "/root/conftest.py" in ran.text


def test_a_function_that_takes_too_long_is_killed_with_a_sentence(failing: Inner) -> None:
    began = time.monotonic()
    ran = failing.run("-v", "test_limits.py", "-k", "timeout")
    assert time.monotonic() - began < 300
    text = failure_of(ran, "ERROR at setup of test_timeout")
    assert "it sleeps now" in text
    assert "It was killed: it did not end within its timeout of 15 seconds." in text


def test_a_function_that_needs_more_memory_than_it_may_use_is_killed_with_a_sentence(failing: Inner) -> None:
    ran = failing.run("-v", "test_limits.py", "-k", "memory or enough")
    if "memory= cannot be held here." in ran.text:
        pytest.skip("this machine cannot hold a limit of memory")
    assert outcomes(ran) == {"test_memory": "ERROR", "test_enough": "PASSED"}, ran.text
    text = failure_of(ran, "ERROR at setup of test_memory")
    assert "The kernel killed it: it needs more memory than memory=150 allows." in text


def test_without_its_source_the_image_must_have_the_function(failing: Inner) -> None:
    ran = failing.run("-v", "test_source.py")
    assert outcomes(ran) == {"test_without": "ERROR", "test_of_the_image": "PASSED"}, ran.text
    assert "No module named 'lib'" in failure_of(ran, "ERROR at setup of test_without")
    assert "called from /opt/extra/lib.py" in ran.text


NO_PYTHON = {
    "pytest.ini": "[pytest]\n",
    "test_none.py": """
        import pytest
        from pytest_imagebuild import Image

        def prepare(): pass

        image = (
            Image.from_registry("python:3.13-slim-trixie")
            .env({"NONCE": "@NONCE@"})
            .run_commands("rm -f /usr/bin/python* /usr/local/bin/python*")
        )

        @pytest.mark.image(image.run_function(prepare))
        def test_it(): pass
        """,
}


def test_an_image_without_python_gets_the_sentence_that_names_add_python(
    tmp_path: Path, engine: EngineUnderTest, nonce: str
) -> None:
    project = Inner(tmp_path, engine).write({n: text.replace("@NONCE@", nonce) for n, text in NO_PYTHON.items()})
    ran = project.run()
    sentence = "Functions cannot run in this image: it has neither `python` nor `python3` on PATH. Use add_python"
    assert sentence in ran.text


IMPORTS = {
    "pytest.ini": "[pytest]\n",
    "test_imports.py": """
        from pathlib import Path

        import pytest
        from pytest_imagebuild import Image

        BASE = Image.from_registry("python:3.13-slim-trixie").env({"NONCE": "@NONCE@", "PYTHONPATH": "/opt/extra"})


        def make(text):
            Path("/opt/extra").mkdir()
            Path("/opt/extra/made_here.py").write_text(text)


        HAS = BASE.run_function(make, args=("VALUE = 1",))
        BROKEN = BASE.run_function(make, args=("import not_there",))

        with HAS.imports():
            import made_here

        @pytest.mark.image(HAS)
        def test_has():
            assert made_here.VALUE == 1

        @pytest.mark.image(BASE)
        def test_another_image():
            pass
        """,
    "test_broken.py": """
        import pytest
        from test_imports import BASE, BROKEN

        with BROKEN.imports():
            import made_here

        @pytest.mark.image(BROKEN, BASE)
        def test_it():
            made_here.VALUE
        """,
}


def test_imports_fail_quietly_on_the_host_and_in_other_images_and_as_an_error_in_their_own(
    tmp_path: Path, engine: EngineUnderTest, nonce: str
) -> None:
    project = Inner(tmp_path, engine).write({n: text.replace("@NONCE@", nonce) for n, text in IMPORTS.items()})
    ran = project.run("-v", "test_imports.py")
    assert outcomes(ran) == {"test_has": "PASSED", "test_another_image": "PASSED"}, ran.text
    ran = project.run("-v", "-p", "no:randomly", "test_broken.py")
    found = list(outcomes(ran).values())
    assert found == ["ERROR", "FAILED"], ran.text
    assert "ModuleNotFoundError: No module named 'not_there'" in ran.text
    assert "NameError: name 'made_here' is not defined" in ran.text
    assert "the imports() block at " in ran.text
