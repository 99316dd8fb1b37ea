"""The marker, the hooks, the flags and the sources, as tests in containers see them. One run, read by many tests."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from engines import EngineUnderTest, on_one_engine
from inner import SLEEPS, TIMEOUT, Inner, Ran, failure_of, outcomes

BASE = "python:3.13-slim-trixie"
OTHER = "python:3.11-slim-trixie"

IMAGES = f"""
    from pytest_imagebuild import Image

    IMAGE = Image.from_registry({BASE!r})
    OTHER = Image.from_registry({OTHER!r})
    RICHER = IMAGE.run_commands("mkdir -p /opt/extra && echo VALUE = 42 > /opt/extra/only_inside.py").env(
        {{"PYTHONPATH": "/opt/extra", "SET_BY": "image"}}
    )
    """


# One run of everything that the marker can say ---------------------------------------------------------------------

MARKER_PROJECT = {
    "pytest.ini": "[pytest]\n",
    ".gitignore": "ignored.txt\nbuild/\n",
    "ignored.txt": "never inside",
    "build/output.txt": "never inside",
    "kept.txt": "as it was",
    "sources/greetings.py": "GREETING = 'hello'\n",
    "given.txt": "given",
    "tree/leaf.txt": "leaf",
    "images.py": IMAGES
    + """
    WITH_SOURCES = (
        IMAGE.add_local_file("given.txt", "/srv/given.txt")
        .add_local_dir("tree", "/srv/tree")
        .add_local_dir("sources", "/root")
    )
    """,
    "conftest.py": """
        import json

        import pytest


        def pytest_image_environment(config, image):
            return {"FROM_A_HOOK": image.label, "TOLD_TWICE": "hook"}


        def pytest_image_built(config, image, key, reference):
            with open("built.jsonl", "a") as file:
                print(json.dumps([image.label, key, reference]), file=file)
        """,
    "test_marker.py": """
        import os
        import socket
        import subprocess
        import sys
        import time
        from pathlib import Path

        import pytest
        from images import IMAGE, OTHER, RICHER, WITH_SOURCES

        with RICHER.imports():
            import only_inside

        HERE = Path(__file__).parent


        @pytest.mark.image(RICHER)
        def test_an_import_that_only_works_inside():
            assert only_inside.VALUE == 42


        @pytest.mark.image(IMAGE)
        def test_the_import_of_another_image():
            with pytest.raises(NameError):
                only_inside


        def test_host_does_not_need_the_import():
            assert "only_inside" not in globals() and "IMAGEBUILD_IMAGE" not in os.environ


        @pytest.mark.image(IMAGE, OTHER)
        def test_two_pythons(image_under_test):
            assert image_under_test == (IMAGE if sys.version_info[:2] == (3, 13) else OTHER)


        @pytest.mark.parametrize("letter", "ab")
        @pytest.mark.image(IMAGE, OTHER)
        def test_two_pythons_and_parameters(letter):
            assert letter in "ab"


        @pytest.mark.image(RICHER, env={"MODE": "fast", "SET_BY": "marker", "TOLD_TWICE": "marker"})
        class TestEnvironment:
            def test_of_the_marker(self):
                assert os.environ["MODE"] == "fast"

            def test_marker_wins_over_image_and_hook(self):
                assert (os.environ["SET_BY"], os.environ["TOLD_TWICE"]) == ("marker", "marker")

            @pytest.mark.image(RICHER)
            def test_function_level_wins_over_class_level(self):
                assert "MODE" not in os.environ and os.environ["SET_BY"] == "image"


        @pytest.mark.image(IMAGE)
        def test_hook_gives_variables():
            assert os.environ["FROM_A_HOOK"].startswith("python-3.13")


        @pytest.mark.image(IMAGE)
        def test_variables_of_the_host_stay_out():
            assert "SECRET_OF_THE_HOST" not in os.environ and "DOCKER_HOST" not in os.environ


        @pytest.mark.image(IMAGE)
        def test_network_is_there():
            assert {name for _, name in socket.if_nameindex()} > {"lo"}


        @pytest.mark.image(IMAGE, network=False)
        def test_network_is_cut():
            assert [name for _, name in socket.if_nameindex()] == ["lo"]
            with pytest.raises(OSError, match="Network is unreachable"):
                socket.create_connection(("192.0.2.1", 80), timeout=5)


        @pytest.mark.image(IMAGE, timeout=60)
        def test_within_its_time():
            time.sleep(0.01)


        @pytest.mark.image(IMAGE)
        def test_tree_is_there_without_what_git_ignores():
            assert (HERE / "kept.txt").read_text() == "as it was"
            assert not (HERE / "ignored.txt").exists() and not (HERE / "build").exists()
            assert not (HERE / ".git").exists()


        @pytest.mark.image(IMAGE)
        def test_tree_is_writable():
            (HERE / "kept.txt").write_text("changed inside")
            (HERE / "new.txt").write_text("made inside")


        @pytest.mark.image(IMAGE)
        def test_writes_last_as_long_as_the_session():
            assert (HERE / "new.txt").exists()


        @pytest.mark.image(WITH_SOURCES)
        def test_local_sources():
            import greetings

            assert greetings.GREETING == "hello"
            assert greetings.__file__ == "/root/greetings.py"
            assert Path("/srv/given.txt").read_text() == "given"
            assert Path("/srv/tree/leaf.txt").read_text() == "leaf"


        @pytest.mark.image(IMAGE)
        def test_fixture_of_the_host(image_build):
            pass


        @pytest.mark.image(IMAGE)
        def test_nobody_is_told_of_the_host():
            assert os.getpid() != 1 and os.getuid() == 0
        """,
    "elsewhere/test_path.py": """
        import images
        import pytest


        @pytest.mark.image(images.IMAGE)
        def test_module_of_the_current_folder():
            assert images.__file__.endswith("/project/images.py")
        """,
    "test_levels.py": """
        import os

        import pytest
        from images import IMAGE

        pytestmark = pytest.mark.image(IMAGE, env={"LEVEL": "module"})


        def test_module():
            assert os.environ["LEVEL"] == "module"


        class TestInherited:
            def test_inherited(self):
                assert os.environ["LEVEL"] == "module"


        @pytest.mark.image(IMAGE, env={"LEVEL": "class"})
        class TestOwn:
            def test_class(self):
                assert os.environ["LEVEL"] == "class"

            @pytest.mark.image(IMAGE, env={"LEVEL": "function"})
            def test_function(self):
                assert os.environ["LEVEL"] == "function"
        """,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, engine: EngineUnderTest) -> Inner:
    """Return the project of the marker, a git checkout."""
    project = Inner(tmp_path_factory.mktemp("surface"), engine, {"SECRET_OF_THE_HOST": "hush"}).write(MARKER_PROJECT)
    subprocess.run(["git", "init", "-q", project.folder], check=True, timeout=60)
    return project


@pytest.fixture(scope="module")
def marked(home: Inner) -> Ran:
    return home.run("-v", "-rA")


@pytest.mark.parametrize(
    "name",
    [
        "test_an_import_that_only_works_inside",
        "test_the_import_of_another_image",
        "test_host_does_not_need_the_import",
        "TestEnvironment::test_of_the_marker",
        "TestEnvironment::test_marker_wins_over_image_and_hook",
        "TestEnvironment::test_function_level_wins_over_class_level",
        "test_hook_gives_variables",
        "test_variables_of_the_host_stay_out",
        "test_network_is_there",
        "test_network_is_cut",
        "test_within_its_time",
        "test_tree_is_there_without_what_git_ignores",
        "test_tree_is_writable",
        "test_writes_last_as_long_as_the_session",
        "test_local_sources",
        "test_nobody_is_told_of_the_host",
        "test_module",
        "TestInherited::test_inherited",
        "TestOwn::test_class",
        "TestOwn::test_function",
        "test_module_of_the_current_folder",
    ],
)
def test_inside(marked: Ran, name: str) -> None:
    assert outcomes(marked)[name] == "PASSED", failure_of(marked, name.replace("::", "."))


def test_several_images_run_a_test_once_in_each_with_the_image_as_first_parameter(marked: Ran) -> None:
    names = ("python-3.13-slim-trixie", "python-3.11-slim-trixie")
    both = [name for name in outcomes(marked) if name.startswith("test_two_pythons")]
    assert both == [
        *(f"test_two_pythons[{name}]" for name in names),
        *(f"test_two_pythons_and_parameters[{name}-{letter}]" for name in names for letter in "ab"),
    ]
    assert {outcomes(marked)[name] for name in both} == {"PASSED"}


def test_a_fixture_of_the_host_says_so_inside(marked: Ran) -> None:
    assert outcomes(marked)["test_fixture_of_the_host"] == "ERROR"
    assert "image_build is a fixture of the host and cannot be used inside a container" in marked.out


def test_what_tests_write_into_the_project_does_not_reach_the_host(marked: Ran, home: Inner) -> None:
    assert (home.folder / "kept.txt").read_text() == "as it was"
    assert not (home.folder / "new.txt").exists()


def test_the_built_hook_hears_of_every_image_once(marked: Ran, home: Inner, engine: EngineUnderTest) -> None:
    heard = [json.loads(line) for line in (home.folder / "built.jsonl").read_text().splitlines()]
    assert sorted(label for label, _, _ in heard) == ["python-3.11-slim-trixie", *3 * ["python-3.13-slim-trixie"]]
    assert len({key for _, key, _ in heard}) == 3, "lazy local sources make no layer"
    assert all(engine.key_of(reference) == key for _, key, reference in heard)


def test_no_container_is_left(marked: Ran, engine: EngineUnderTest) -> None:
    assert outcomes(marked)["test_two_pythons[python-3.11-slim-trixie]"] == "PASSED"
    assert engine.containers() == []


def test_the_lockfile_pins_the_bases(marked: Ran, home: Inner) -> None:
    text = (home.folder / "imagebuild.lock").read_text()
    assert BASE in text
    assert OTHER in text


def test_an_edited_source_shows_in_the_next_run_and_nothing_is_built(marked: Ran, home: Inner) -> None:
    home.write({"sources/greetings.py": "GREETING = 'good morning'\n"})
    ran = home.run("-v", "-k", "test_local_sources")
    assert ran.code == pytest.ExitCode.TESTS_FAILED
    assert "AssertionError: assert 'good morning' == 'hello'" in ran.out
    assert "layers: reused 2, built 0\n" in ran.out


# Flags -------------------------------------------------------------------------------------------------------------

FLAGS_PROJECT = {
    "pytest.ini": "[pytest]\n",
    "images.py": IMAGES,
    "test_flags.py": """
        import os

        import pytest
        from images import IMAGE


        @pytest.mark.image(IMAGE)
        def test_inside():
            assert "IMAGEBUILD_IMAGE" in os.environ


        def test_host():
            assert "IMAGEBUILD_IMAGE" not in os.environ
        """,
}


@pytest.fixture
def flags(tmp_path: Path, engine: EngineUnderTest) -> Inner:
    return Inner(tmp_path, engine).write(FLAGS_PROJECT)


def test_a_run_has_a_line_before_the_tests_and_one_after_and_a_warm_run_builds_nothing(flags: Inner) -> None:
    flags.run()
    ran = flags.run()
    assert ran.code == 0
    ours = [line for line in ran.lines if line.startswith("imagebuild")]
    assert len(ours) == 2
    assert ours[0].startswith(f"imagebuild: python-3.13-slim-trixie on {flags.engine.name} ")
    assert ours[1] == f"imagebuild ({flags.engine.name}): layers: reused 2, built 0"


def test_quiet_is_quiet(flags: Inner) -> None:
    ran = flags.run("-q")
    assert "imagebuild" not in ran.text
    assert ran.lines[0].startswith(".. ")


def test_no_image_runs_marked_tests_on_the_host_and_contacts_no_engine(flags: Inner) -> None:
    ran = flags.run("--no-image", "-v", **flags.engine.outage.environment)
    assert outcomes(ran) == {"test_inside": "FAILED", "test_host": "PASSED"}
    assert "layers:" not in ran.out


def test_build_only_builds_the_images_of_the_selected_tests_and_runs_none(flags: Inner) -> None:
    ran = flags.run("--image-build-only", "-v")
    assert outcomes(ran) == {}
    assert (ran.code, "layers: reused 2, built 0" in ran.out) == (0, True)


def test_build_only_shows_what_cannot_be_built(flags: Inner) -> None:
    flags.write({"images.py": IMAGES + "\n    IMAGE = IMAGE.run_commands('echo sorry; exit 7')\n"})
    ran = flags.run("--image-build-only", "-v")
    assert outcomes(ran) == {"test_inside": "ERROR"}
    assert ran.code == pytest.ExitCode.TESTS_FAILED
    assert "exit code: 7" in ran.out


def test_a_collection_that_fails_builds_nothing(flags: Inner) -> None:
    flags.write({"test_broken.py": "import no_such_module\n"})
    ran = flags.run(**flags.engine.outage.environment)
    assert ran.code == pytest.ExitCode.INTERRUPTED
    assert "1 error during collection" in ran.out


def test_collecting_only_contacts_no_engine(flags: Inner) -> None:
    ran = flags.run("--collect-only", "-q", **flags.engine.outage.environment)
    assert (ran.code, ran.lines[0]) == (0, "test_flags.py::test_inside")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("", "it takes an Image, found nothing. Write @pytest.mark.image(Image.debian_slim())."),
        ("'debian'", "it takes Images, found str 'debian'."),
        (
            "IMAGE, cpus=2",
            "unknown argument 'cpus'; it knows gpu, cpu, memory, timeout, env, secrets, volumes, network, isolation.",
        ),
        ("IMAGE, env='A=1'", "env takes a dict of strings, found str."),
        ("IMAGE, env={'A': 1}", "env takes a dict of strings; these are not: ['A']."),
        ("IMAGE, network=0", "network takes True or False, found 0."),
        ("IMAGE, timeout=0", "timeout takes a number of seconds above 0, found 0."),
        ("IMAGE, timeout='1 h'", "timeout takes a number of seconds above 0, found '1 h'."),
    ],
)
@on_one_engine()
def test_a_wrong_argument_of_the_marker_is_a_usage_error_at_the_test(
    flags: Inner, arguments: str, sentence: str
) -> None:
    flags.write(
        {
            "test_flags.py": f"""
                import pytest
                from images import IMAGE

                @pytest.mark.image({arguments})
                def test_it():
                    pass
                """
        }
    )
    ran = flags.run(**flags.engine.outage.environment)
    assert ran.err == f"ERROR: test_flags.py:4: @pytest.mark.image of test_it: {sentence}\n\n"
    assert ran.code == pytest.ExitCode.USAGE_ERROR


def test_an_engine_that_is_down_is_one_line_and_no_traceback(flags: Inner) -> None:
    ran = flags.run(**flags.engine.outage.environment)
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    assert len(ran.err.strip().splitlines()) == 1
    assert ran.err.startswith(f"ERROR: {flags.engine.outage.sentence}")
    assert "Traceback" not in ran.text


def test_an_engine_of_an_unknown_name_is_a_usage_error(flags: Inner) -> None:
    ran = flags.run("--image-engine=whale")
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    assert "there is no image engine named 'whale'" in ran.err
    assert "Traceback" not in ran.text


# A run without images ----------------------------------------------------------------------------------------------


def test_a_run_without_marked_tests_imports_nothing_heavy_and_contacts_no_engine(
    tmp_path: Path, engine: EngineUnderTest
) -> None:
    plain = Inner(tmp_path, engine).write(
        {
            "pytest.ini": "[pytest]\n",
            "test_plain.py": """
            import sys


            def test_plain():
                heavy = {"docker", "testcontainers", "rich", "requests", "filelock", "tomli_w"}
                assert heavy & set(sys.modules) == set()
                ours = {name.split(".")[1] for name in sys.modules if name.startswith("pytest_imagebuild.")}
                assert "plugin" in ours
                assert not {"build", "dispatch", "engines", "image", "plan", "session"} & ours
            """,
        }
    )
    arguments = ("-v", "-p", "no:xdist", "-p", "no:platformdirs", "-W", "error")
    ran = plain.run(*arguments, **engine.outage.environment)
    assert (ran.code, outcomes(ran)) == (0, {"test_plain": "PASSED"}), ran.text
    assert "imagebuild:" not in ran.out
    assert "layers:" not in ran.out


WARM = {
    "conftest.py": """
        import atexit
        import gc
        import os
        import sys


        class Mine:
            # Nothing but a collection of garbage can end it.

            def __init__(self):
                self.me = self

            def __del__(self, write=os.write):
                write(1, b"mine has ended\\n")


        mine = Mine()
        before = gc.get_freeze_count()


        def pytest_unconfigure():
            if "IMAGEBUILD_IMAGE" not in os.environ:
                print("imported:", *sys.modules)
                print("spared:", 0 < gc.get_freeze_count() <= before)
                atexit.register(lambda: print("spared at the exit:", 0 < gc.get_freeze_count() <= before))
        """,
    "test_warm.py": f"""
        import sys

        import pytest

        from pytest_imagebuild import Image


        @pytest.mark.image(Image.from_registry({BASE!r}).env({{"WARM": "yes"}}))
        def test_warm():
            print("inside:", *(name for name in sys.modules if name.startswith("pytest_imagebuild.")))
        """,
}

NEEDLESS = (
    *("build.maker", "build.work", "build.installs", "build.functions", "build.reasons"),
    *("plan.context", "plan.dockerfiles", "plan.functions", "plan.projects", "dockerfile"),
    *("image.instructions", "image.function_call", "image.gpu", "image.secret", "image.sources", "image.volume"),
    *("image.steps.apt", "image.steps.debian", "image.steps.pip", "image.steps.uv_pip", "image.dockerfiles"),
    *("engines.work", "engines.gpus.inventory", "engines.services", "session.nodes", "dispatch.diagnosis"),
    *("engines.embedded.gpus", "engines.embedded.machine", "engines.embedded.volumes", "engines.embedded.work"),
)
"""What only builds, and what images, tests and command lines of other kinds need."""

NEEDED_BY_DOCKER = ("engines.gpus.inventory", "engines.services", "engines.work")
"""The adapter of Docker is one piece, and its library takes longer to import than all of these."""


def test_a_run_of_an_image_that_is_built_imports_nothing_that_others_need(
    tmp_path: Path, engine: EngineUnderTest
) -> None:
    project = Inner(tmp_path, engine).write(WARM)
    project.run()
    ran = project.run("-rP", "-p", "no:xdist")
    assert ran.code == 0, ran.text
    said = {name: set(found.split()) for name, found in re.findall(r"^(imported|inside): (.*)$", ran.out, re.MULTILINE)}
    needless = {f"pytest_imagebuild.{name}" for name in NEEDLESS}
    assert "pytest_imagebuild.dispatch.run" in said["imported"]
    assert "pytest_imagebuild.image.steps.variables" in said["imported"] & said["inside"]
    of_docker = {f"pytest_imagebuild.{name}" for name in NEEDED_BY_DOCKER} if engine.name == "docker" else set()
    assert needless & (said["imported"] | said["inside"]) == of_docker
    if engine.name == "embedded":
        assert {"docker", "requests", "rich", "tomli_w"} & said["imported"] == set()


def test_collections_of_garbage_are_spared_what_was_there_before_conftest_files_by_a_run_with_images_that_ends(
    tmp_path: Path, engine: EngineUnderTest
) -> None:
    project = Inner(tmp_path, engine).write(WARM)
    project.write({"program.py": "import gc, pytest; pytest.main([]); print('after:', gc.get_freeze_count())"})
    runs = project.run(), project.run(), project.run("--no-image"), project.run("--collect-only")
    spared = "spared: True", "spared at the exit: True"
    not_spared = "spared: False", "spared at the exit: False"
    for run, expected in zip(runs, (not_spared, spared, not_spared, not_spared), strict=True):
        assert re.findall(r"^spared.*", run.out, re.MULTILINE) == [*expected]
        assert run.out.count("mine has ended") == 1

    command, environment = [sys.executable, "program.py"], project.variables
    goes_on = subprocess.run(
        command, cwd=project.folder, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert "spared: True" in goes_on.stdout
    assert "after: 0" in goes_on.stdout


def test_to_import_the_package_before_pytest_gives_no_warning(flags: Inner) -> None:
    program = "import sys, pytest_imagebuild, pytest; sys.exit(pytest.main(['-W', 'error', '-k', 'host']))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=flags.folder, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 passed, 1 deselected in" in done.stdout


def test_the_package_is_imported_with_the_standard_library_alone() -> None:
    program = """
        import sys
        before = set(sys.modules)
        from pytest_imagebuild import Image
        Image.debian_slim().apt_install("git")
        print({name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "{'pytest_imagebuild'}\n"


def test_what_a_test_prints_is_shown_while_it_runs(tmp_path: Path, engine: EngineUnderTest) -> None:
    project = Inner(tmp_path, engine).write(SLEEPS)
    running = project.begin("-s")
    end = time.monotonic() + TIMEOUT
    while "now it sleeps" not in running.out():
        assert time.monotonic() < end
        time.sleep(0.1)
    running.process.send_signal(signal.SIGINT)
    assert running.wait().code == pytest.ExitCode.INTERRUPTED


# What is added to an image ----------------------------------------------------------------------------------------


def test_an_image_has_nothing_to_import_but_its_own_and_what_pytest_needs(
    tmp_path: Path, engine: EngineUnderTest
) -> None:
    """Suites find out what they can import, and do other things then."""
    project = Inner(tmp_path, engine).write(
        {
            "pytest.ini": "[pytest]\n",
            "test_imports.py": f"""
                import sys
                from importlib.util import find_spec

                import pytest
                from pytest_imagebuild import Image

                BARE = Image.from_registry({BASE!r})
                OWN = BARE.uv_pip_install("pytest=={pytest.__version__}")
                OF_OLD_PYTHONS = ("exceptiongroup", "tomli", "typing_extensions")


                def places(*names):
                    return [spec.origin for name in names if (spec := find_spec(name)) is not None]


                @pytest.mark.image(BARE, OWN)
                def test_none_of_older_pythons(image_under_test):
                    assert places(*OF_OLD_PYTHONS) == []


                @pytest.mark.image(BARE)
                def test_pytest_is_lent():
                    assert all(place.startswith("/.imagebuild/") for place in places("pytest", "pluggy", "iniconfig"))


                @pytest.mark.image(OWN)
                def test_pytest_is_the_images_own():
                    found = places("pytest", "pluggy", "iniconfig", "packaging", "pygments")
                    assert len(found) == 5
                    assert not any(place.startswith("/.imagebuild/") for place in found)
                    folder = sys.modules["pytest_imagebuild"].__path__[0].rpartition("/")[0]
                    assert folder == "/.imagebuild/site-packages"
                    import os

                    assert os.listdir(folder) == ["pytest_imagebuild"]
                """,
        }
    )
    ran = project.run("-v")
    assert "4 passed" in ran.out, ran.text
