"""Tests without a marker, run in an image all the same: by `--image` and by the ini key `image`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from engines import CHOSEN, EngineUnderTest, on_one_engine
from inner import TIMEOUT, Inner, outcomes

IMAGES = """
    from pytest_imagebuild import Image

    WRITE = "echo 'WHERE = {}' > /usr/local/lib/only_inside.py"
    NEW = Image.from_registry("python:3.13-slim-trixie").run_commands(WRITE.format(13))
    NEW = NEW.env({"PYTHONPATH": "/usr/local/lib"})
    OLD = Image.from_registry("python:3.11-slim-trixie").run_commands(WRITE.format(11))
    OLD = OLD.env({"PYTHONPATH": "/usr/local/lib"})
    FAILS = Image.from_registry("python:3.13-slim-trixie").run_commands("exit 9")
    NUMBER = 3
    """

PROJECT = {
    "pytest.ini": "[pytest]\nmarkers = slow: takes a while\n",
    "images.py": IMAGES,
    "conftest.py": """
        import only_inside
        import pytest


        def pytest_addoption(parser):
            parser.addoption("--shade", default="none")
            parser.addini("depth", "an ini key of a conftest file that cannot be imported on the host")


        def pytest_collection_modifyitems(items):
            assert all(item.function for item in items)
            items.sort(key=lambda item: "last" in item.name)


        @pytest.fixture
        def shade(request):
            return request.config.getoption("shade")
        """,
    "tests/test_it.py": """
        import pytest
        import only_inside


        def test_last():
            pass


        @pytest.mark.slow
        class TestClass:
            @pytest.mark.parametrize("number", [11, 13])
            def test_where(self, number):
                assert only_inside.WHERE == number


        def test_shade(shade):
            assert shade == "blue"
        """,
}
HOST_TEST = """
    import os


    def test_on_the_host():
        assert "IMAGEBUILD_IMAGE" not in os.environ
    """


@pytest.fixture
def inner(tmp_path: Path, engine: EngineUnderTest) -> Inner:
    """Return a project that this machine could not collect."""
    return Inner(tmp_path, engine).write(PROJECT)


NEW = "--image=images.py:NEW"


def test_files_that_cannot_be_imported_here_are_collected_and_run_inside(inner: Inner) -> None:
    ran = inner.run(NEW, "--shade=blue", "-v", "-rA")
    assert outcomes(ran) == {
        "TestClass::test_where[11]": "FAILED",
        "TestClass::test_where[13]": "PASSED",
        "test_shade": "PASSED",
        "test_last": "PASSED",
    }, ran.text
    assert ran.out.index("::test_shade") < ran.out.index("::test_last")
    assert "assert 13 == 11" in ran.out
    assert not (inner.folder / "tests" / "__pycache__").exists()


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        (["-k", "where and not 13"], ["tests/test_it.py::TestClass::test_where[11]"]),
        (["-m", "not slow"], ["tests/test_it.py::test_shade", "tests/test_it.py::test_last"]),
        (["tests/test_it.py::TestClass::test_where[13]"], ["tests/test_it.py::TestClass::test_where[13]"]),
        (["tests/test_it.py::test_last", "tests/test_it.py::test_shade"],
         ["tests/test_it.py::test_shade", "tests/test_it.py::test_last"]),
        (["--deselect=tests/test_it.py::TestClass", "--deselect=tests/test_it.py::test_last"],
         ["tests/test_it.py::test_shade"]),
    ],
)  # fmt: skip
@on_one_engine()
def test_tests_are_chosen_as_ever(inner: Inner, arguments: list[str], chosen: list[str]) -> None:
    ran = inner.run(NEW, "--co", "-q", *arguments)
    assert [line for line in ran.lines if "::" in line] == chosen, ran.text


@on_one_engine()
def test_a_node_id_that_is_not_there_is_the_error_of_pytest(inner: Inner) -> None:
    ran = inner.run(NEW, "tests/test_it.py::test_nothing")
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    assert f"not found: {inner.folder}/tests/test_it.py::test_nothing" in ran.err
    assert "(no match in any of [<Module test_it.py>])" in ran.err


def test_the_last_failures_are_run_again(inner: Inner) -> None:
    assert "1 failed, 3 passed" in inner.run(NEW, "--shade=blue").out
    ran = inner.run(NEW, "--lf", "-v")
    assert outcomes(ran) == {"TestClass::test_where[11]": "FAILED"}


@on_one_engine()
def test_the_tree_of_the_collection_is_shown(inner: Inner) -> None:
    ran = inner.run(NEW, "--co", "tests")
    shown = [line for line in ran.lines if line.strip().startswith("<")]
    assert [line.strip() for line in shown] == [
        "<Dir project>",
        "<Dir tests>",
        "<Module test_it.py>",
        "<Class TestClass>",
        "<Function test_where[11]>",
        "<Function test_where[13]>",
        "<Function test_shade>",
        "<Function test_last>",
    ]


@on_one_engine()
def test_what_only_the_image_knows_in_the_ini_file_is_no_error(inner: Inner) -> None:
    inner.write({"pytest.ini": "[pytest]\nmarkers = slow: x\ndepth = 3\naddopts = --strict-config --shade blue -q\n"})
    ran = inner.run(NEW, "-k", "shade")
    assert "1 passed, 3 deselected" in ran.out, ran.text
    inner.write({"pytest.ini": "[pytest]\nmarkers = slow: x\nwidth = 3\naddopts = --strict-config\n"})
    ran = inner.run(NEW)
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    assert "Unknown config option: width" in ran.err


def test_an_option_that_nobody_knows_is_the_error_of_pytest(inner: Inner) -> None:
    ran = inner.run(NEW, "--shades=blue")
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    assert "unrecognized arguments: --shades=blue" in ran.err
    # The container had to be asked, and is gone.
    assert inner.engine.containers() == []


@on_one_engine()
def test_a_collection_error_inside_is_one_here(inner: Inner) -> None:
    inner.write({"tests/test_bad.py": "import nothing_has_this\n"})
    ran = inner.run(NEW)
    assert ran.code == pytest.ExitCode.INTERRUPTED
    assert "ERROR collecting tests/test_bad.py" in ran.out
    assert "E   ModuleNotFoundError: No module named 'nothing_has_this'" in ran.out
    assert "Interrupted: 1 error during collection" in ran.out
    ran = inner.run(NEW, "--continue-on-collection-errors", "--shade=blue")
    assert "1 failed, 3 passed, 1 error" in ran.out


@on_one_engine()
def test_a_conftest_file_that_fails_inside_ends_the_run(inner: Inner) -> None:
    inner.write({"conftest.py": "import nothing_has_this\n"})
    ran = inner.run(NEW)
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    assert f"ImportError while loading conftest '{inner.folder}/conftest.py'." in ran.err
    assert "ModuleNotFoundError: No module named 'nothing_has_this'" in ran.err


@on_one_engine()
def test_warnings_of_the_collection_are_shown(inner: Inner) -> None:
    inner.write({"tests/test_warns.py": "import warnings\nwarnings.warn('at the top')\ndef test_it(): pass\n"})
    ran = inner.run(NEW, "tests/test_warns.py")
    assert ran.out.count("UserWarning: at the top") == 1
    assert "1 passed, 1 warning" in ran.out


def test_a_worker_that_dies_takes_one_test_with_it(inner: Inner) -> None:
    inner.write({"tests/test_dies.py": "import os\ndef test_dies(): os._exit(3)\ndef test_after(): pass\n"})
    ran = inner.run(NEW, "tests/test_dies.py", "-v")
    assert outcomes(ran) == {"test_dies": "FAILED", "test_after": "PASSED"}, ran.text


def test_a_file_that_is_not_in_the_container_says_so(inner: Inner) -> None:
    inner.write({"pytest.ini": "[pytest]\nimage_sync = !tests/test_it.py\n"})
    ran = inner.run(NEW, "tests/test_it.py")
    assert "ERROR collecting tests/test_it.py" in ran.out
    assert "is not in the container: is it ignored by git" in ran.out


def test_xdist_distributes_them(inner: Inner) -> None:
    ran = inner.run(NEW, "-n2", "--shade=blue", "-v")
    assert "1 failed, 3 passed" in ran.out, ran.text
    assert "FAILED tests/test_it.py::TestClass::test_where[11]" in ran.out
    # The image was built once, by the controller, which had to know the option.
    assert len(re.findall("run_commands.*built in", ran.text)) <= 1


@on_one_engine()
def test_no_image_switches_it_off(inner: Inner) -> None:
    inner.write({"conftest.py": "", "tests/test_it.py": HOST_TEST})
    assert "1 passed" in inner.run(NEW, "--no-image").out
    assert "1 failed" in inner.run(NEW).out


# several images -----------------------------------------------------------------------------------------------------


def test_several_images_run_each_test_once_in_each(inner: Inner) -> None:
    ran = inner.run(NEW, "--image=images.py:OLD", "--shade=blue", "-v", "-rA", "tests")
    assert outcomes(ran) == {
        "TestClass::test_where[NEW-11]": "FAILED",
        "TestClass::test_where[NEW-13]": "PASSED",
        "TestClass::test_where[OLD-11]": "PASSED",
        "TestClass::test_where[OLD-13]": "FAILED",
        "test_shade[NEW]": "PASSED",
        "test_shade[OLD]": "PASSED",
        "test_last[NEW]": "PASSED",
        "test_last[OLD]": "PASSED",
    }
    assert "imagebuild (NEW): 1 failed, 3 passed" in ran.lines
    assert "imagebuild (OLD): 1 failed, 3 passed" in ran.lines


@on_one_engine()
def test_one_of_several_images_is_chosen_by_node_id(inner: Inner) -> None:
    ran = inner.run(NEW, "--image=images.py:OLD", "-q", "tests/test_it.py::TestClass::test_where[OLD-11]")
    assert "1 passed" in ran.out, ran.text


def test_xdist_tells_of_each_image(inner: Inner) -> None:
    ran = inner.run(NEW, "--image=images.py:OLD", "--shade=blue", "-n2")
    assert "imagebuild (NEW): 1 failed, 3 passed" in ran.lines, ran.text
    assert "imagebuild (OLD): 1 failed, 3 passed" in ran.lines


def test_an_image_that_cannot_be_built_is_an_error_beside_the_others(inner: Inner) -> None:
    ran = inner.run(NEW, "--image=images.py:FAILS", "--continue-on-collection-errors", "tests")
    assert "FAILS: " in ran.out
    assert 'run_commands("exit 9") failed' in ran.out
    alone = inner.run("--image=images.py:FAILS")
    assert 'run_commands("exit 9") failed' in alone.text
    assert alone.code != 0
    assert "INTERNALERROR" not in alone.text


# folders ------------------------------------------------------------------------------------------------------------


@on_one_engine()
def test_folders_have_their_own_images(inner: Inner) -> None:
    where = "import only_inside\n\ndef test_where():\n    assert only_inside.WHERE == {}\n"
    inner.write(
        {
            "pytest.ini": "[pytest]\nimage =\n    tests/new = images.py:NEW\n    tests/new/old = images.py:OLD\n",
            "conftest.py": "",
            "tests/test_it.py": HOST_TEST,
            "tests/new/test_a.py": where.format(13),
            "tests/new/old/test_b.py": where.format(11),
            "tests/new/z/test_c.py": where.format(13),
        }
    )
    ran = inner.run("-v")
    assert sorted(line.partition(" ")[0] for line in ran.lines if " PASSED" in line) == [
        "tests/new/old/test_b.py::test_where",
        "tests/new/test_a.py::test_where",
        "tests/new/z/test_c.py::test_where",
        "tests/test_it.py::test_on_the_host",
    ], ran.text
    assert "4 passed" in ran.out
    assert "1 passed" in inner.run("tests/new/old").out
    assert "1 passed" in inner.run("tests/test_it.py").out


@on_one_engine()
def test_an_image_in_the_ini_file_holds_for_everything(inner: Inner) -> None:
    inner.write({"pytest.ini": "[pytest]\nmarkers = slow: x\nimage = images.py:NEW\n"})
    assert "1 failed, 3 passed" in inner.run("--shade=blue").out


@on_one_engine()
def test_a_marker_of_a_test_comes_first(inner: Inner) -> None:
    inner.write(
        {
            "conftest.py": "",
            "tests/test_it.py": """
                import sys

                import pytest
                from images import OLD

                with OLD.imports():
                    import only_inside


                @pytest.mark.image(OLD)
                def test_old():
                    assert only_inside.WHERE == 11


                def test_new():
                    assert only_inside.WHERE == 13


                class TestClass:
                    @pytest.mark.image(OLD)
                    def test_old(self):
                        assert only_inside.WHERE == 11

                    def test_new(self):
                        assert only_inside.WHERE == 13
                """,
        }
    )
    ran = inner.run(NEW, "-v", "-rA")
    assert "collected 4 items" in ran.out
    assert set(outcomes(ran)) == {"test_old", "test_new", "TestClass::test_old", "TestClass::test_new"}
    assert "4 passed" in ran.out, ran.text


@on_one_engine()
def test_a_marker_in_a_file_that_cannot_be_imported_here_is_an_error_with_the_way_out(inner: Inner) -> None:
    marked = (
        "import only_inside\nimport pytest\nfrom images import OLD\n\n@pytest.mark.image(OLD)\ndef test_it(): pass\n"
    )
    inner.write({"conftest.py": "", "tests/test_it.py": marked})
    ran = inner.run(NEW)
    assert "ModuleNotFoundError: No module named 'only_inside'" in ran.out
    assert "Import what only the image has in a block `with image.imports():`." in ran.out


# wrong use ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("images.py", "--image images.py: 'images.py' does not name an image. Write FILE.py:NAME or MODULE:NAME."),
        ("images.py:NUMBER", "'images.py:NUMBER' should name an Image, found a int."),
        ("images.py:NONE", "Images in images.py: FAILS, NEW, OLD."),
        ("nothing.py:NEW", "nothing.py does not exist"),
        ("no_module:NEW", "module 'no_module' cannot be imported: No module named 'no_module'."),
    ],
)
@on_one_engine()
def test_an_image_that_is_none_is_a_usage_error(inner: Inner, name: str, sentence: str) -> None:
    ran = inner.run(f"--image={name}")
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    assert sentence in ran.err, ran.text
    assert "Traceback" not in ran.text


@on_one_engine()
def test_a_folder_that_is_none_is_a_usage_error(inner: Inner) -> None:
    inner.write({"pytest.ini": "[pytest]\nimage = no/folder = images.py:NEW\n"})
    ran = inner.run()
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    assert "'no/folder = images.py:NEW' should be FILE.py:NAME, or FOLDER = FILE.py:NAME" in ran.err


def test_what_tests_write_into_the_junit_file_is_there(inner: Inner) -> None:
    inner.write(
        {
            "conftest.py": "",
            "pytest.ini": "[pytest]\njunit_family = xunit1\n",
            "tests/test_it.py": """
                def test_it(record_testsuite_property, record_xml_attribute, record_property):
                    record_testsuite_property("ARCH", "PPC")
                    record_xml_attribute("assertions", 3)
                    record_property("depth", 4)
                """,
        }
    )
    inner.run(NEW, "--junit-xml=junit.xml")
    told = (inner.folder / "junit.xml").read_text("utf-8")
    assert '<property name="ARCH" value="PPC"' in told
    assert 'assertions="3"' in told
    assert '<property name="depth" value="4"' in told


def test_build_only_builds_the_image_and_runs_nothing(inner: Inner) -> None:
    ran = inner.run(NEW, "--image-build-only", "-v")
    assert "layers: reused" in ran.out, ran.text
    assert outcomes(ran) == {}


@on_one_engine()
def test_the_lockfile_of_a_project_that_cannot_be_collected_here(inner: Inner) -> None:
    """The command needs the names of the images, and nothing that is inside."""
    inner.write({"pytest.ini": "[pytest]\ndepth = 3\naddopts = --strict-config --shade blue\nimage = images.py:NEW\n"})
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from pytest_imagebuild.cli import main; sys.exit(main())", "lock"],
        cwd=inner.folder,
        env={**os.environ, **inner.engine.environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'reference = "python:3.13-slim-trixie"' in (inner.folder / "imagebuild.lock").read_text("utf-8")


@pytest.mark.parametrize(
    ("engine", "version"),
    [*((engine, "7.4.4") for engine in CHOSEN), *((engine, "8.0.2") for engine in CHOSEN[-1:])],
    indirect=["engine"],
    scope="session",
)
def test_the_image_may_have_an_older_pytest(tmp_path: Path, engine: EngineUnderTest, version: str) -> None:
    inner = Inner(tmp_path, engine).write(
        {
            "pytest.ini": "[pytest]\n",
            "images.py": f"""
                from pytest_imagebuild import Image

                IMAGE = Image.from_registry("python:3.11-slim-trixie").uv_pip_install("pytest=={version}")
                """,
            "tests/__init__.py": "",
            "tests/conftest.py": "import pytest\n\n@pytest.fixture\ndef version():\n    return pytest.__version__\n",
            "tests/deep/test_b.py": "import nothing_has_this\n",
            "tests/test_a.py": f"""
                import unittest


                def test_version(version):
                    assert version == "{version}"


                class TestCase(unittest.TestCase):
                    def test_fails(self):
                        self.assertEqual(1, 2)
                """,
        }
    )
    ran = inner.run("--image=images.py:IMAGE", "-v", "-rA", "--continue-on-collection-errors")
    assert outcomes(ran) == {"test_version": "PASSED", "TestCase::test_fails": "FAILED"}, ran.text
    assert "ERROR collecting tests/deep/test_b.py" in ran.out
    ran = inner.run("--image=images.py:IMAGE", "-v", "tests/test_a.py::TestCase::test_fails")
    assert "1 failed in" in ran.out, ran.text
