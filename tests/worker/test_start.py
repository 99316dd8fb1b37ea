# A message of another kind than the test expects fails it where it is used.
# mypy: disable-error-code="union-attr, index, arg-type, attr-defined"
"""How a worker becomes what the controller asks for, and what it says when it cannot."""

from __future__ import annotations

import importlib
import io
import os
import tarfile
from pathlib import Path

import iniconfig
import pytest
from live_worker import Makes, tar

from pytest_imagebuild.session.session import WorkerFailedToStart
from pytest_imagebuild.worker.channel import Requests
from pytest_imagebuild.worker.protocol import PROTOCOL
from pytest_imagebuild.worker.worker import _import_meanwhile


def test_the_worker_says_what_it_is(worker: Makes) -> None:
    live = worker("def test_it(): pass").start()
    live.run("test_it.py::test_it")

    assert live.session.ready.protocol == PROTOCOL
    assert live.session.ready.python.startswith("3.")
    assert live.session.ready.pytest[0].isdigit()
    assert live.session.collected.items == 1


def test_path_environment_and_folder_are_set_before_plugins_are_imported(worker: Makes) -> None:
    live = worker(
        {
            "lib/early.py": "import os\nVALUE = os.environ['VALUE']",
            "plug.py": "import early",
            "test_it.py": """
                import early, os, sys

                def test_it(pytestconfig) -> None:
                    assert pytestconfig.pluginmanager.has_plugin("plug")
                    assert early.VALUE == "given"
                    assert sys.path[0].endswith("/lib") or sys.path[1].endswith("/lib")
                    assert os.environ["PYTEST_CURRENT_TEST"] == "test_it.py::test_it (call)"
                    assert sys.argv[0] == "pytest"
            """,
        }
    )
    live.start(path=(str(live.project / "lib"), str(live.project)), environment={"VALUE": "given"}, plugins=("plug",))

    assert live.run("test_it.py::test_it").failure == ""


def test_files_come_with_their_modes_times_and_links(worker: Makes, tmp_path: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        folder = tarfile.TarInfo("project/inner")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o750
        archive.addfile(folder)
        script = tarfile.TarInfo("project/inner/run.sh")
        script.mode, script.size, script.mtime = 0o755, 2, 1_600_000_000
        archive.addfile(script, io.BytesIO(b"hi"))
        link = tarfile.TarInfo("project/link")
        link.type, link.linkname = tarfile.SYMTYPE, "inner/run.sh"
        archive.addfile(link)
        pipe = tarfile.TarInfo("project/pipe")
        pipe.type = tarfile.FIFOTYPE
        archive.addfile(pipe)
        test = b"def test_it(): pass"
        member = tarfile.TarInfo("project/test_it.py")
        member.size = len(test)
        archive.addfile(member, io.BytesIO(test))
    live = worker("").start(payload=content.getvalue())
    live.run("test_it.py::test_it")

    inner = live.project / "inner"
    assert inner.stat().st_mode & 0o777 == 0o750
    assert (inner / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (inner / "run.sh").stat().st_mtime == 1_600_000_000
    assert (live.project / "link").readlink() == Path("inner/run.sh")
    assert not (live.project / "pipe").exists()


def test_a_large_payload_arrives_whole(worker: Makes) -> None:
    live = worker({"test_it.py": "import os\ndef test_it(): assert os.path.getsize('big') == 30_000_000"})
    live.files["big"] = "x" * 30_000_000
    live.start()

    assert live.run("test_it.py::test_it").failure == ""


def test_files_that_cannot_be_written_are_an_error_with_advice(worker: Makes) -> None:
    live = worker("def test_it(): pass").start(root="/proc/nowhere")

    with pytest.raises(WorkerFailedToStart, match="cannot be put in place in the container") as error:
        live.run("test_it.py::test_it")
    assert error.value.text.endswith("Run the image as a user that may write there.")


def test_a_conftest_file_that_cannot_be_imported_is_told_as_pytest_does(worker: Makes) -> None:
    live = worker({"conftest.py": "import no_such_thing", "test_it.py": "def test_it(): pass"}).start()

    with pytest.raises(WorkerFailedToStart) as error:
        live.run("test_it.py::test_it")
    assert error.value.text.splitlines() == [
        f"ImportError while loading conftest '{live.project}/conftest.py'.",
        "conftest.py:1: in <module>",
        "    import no_such_thing",
        "E   ModuleNotFoundError: No module named 'no_such_thing'",
    ]


def test_a_usage_error_is_told_as_pytest_does(worker: Makes) -> None:
    live = worker(
        {
            "conftest.py": "import pytest\ndef pytest_configure(): raise pytest.UsageError('bad', 'worse')",
            "test_it.py": "def test_it(): pass",
        }
    ).start()

    with pytest.raises(WorkerFailedToStart) as error:
        live.run("test_it.py::test_it")
    assert error.value.text == "ERROR: bad\nERROR: worse"


def test_an_error_while_pytest_configures_comes_with_its_traceback(worker: Makes) -> None:
    live = worker(
        {"conftest.py": "def pytest_configure(): raise OSError('odd')", "test_it.py": "def test_it(): pass"}
    ).start()

    with pytest.raises(WorkerFailedToStart, match="OSError: odd"):
        live.run("test_it.py::test_it")


def test_another_version_of_the_protocol_is_refused(worker: Makes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_imagebuild.session.setup.PROTOCOL", PROTOCOL + 1)
    live = worker("def test_it(): pass").start()

    told = f"The controller speaks version {PROTOCOL + 1} of the protocol, this worker {PROTOCOL}"
    with pytest.raises(WorkerFailedToStart, match=told):
        live.run("test_it.py::test_it")


def test_options_and_ini_keys_of_conftest_files_reach_the_tests(worker: Makes) -> None:
    live = worker(
        {
            "pytest.ini": "[pytest]\nour_key = from ini",
            "conftest.py": """
                def pytest_addoption(parser):
                    parser.addoption("--ours", default="unset")
                    parser.addini("our_key", "a key")
            """,
            "test_it.py": """
                def test_it(pytestconfig) -> None:
                    assert pytestconfig.getoption("--ours") == "from the controller"
                    assert pytestconfig.getini("our_key") == "from ini"
            """,
        }
    )
    live.start(inifile=str(live.project / "pytest.ini"), options={"ours": "from the controller"})

    assert live.run("test_it.py::test_it").failure == ""


def test_strict_markers_and_strict_config_accept_what_the_host_knows(worker: Makes) -> None:
    live = worker(
        {
            "pytest.ini": "[pytest]\nimage_engine = docker\nrequired_plugins = pytest-imagebuild\nmarkers = own: ours",
            "conftest.py": "def pytest_of_a_host_plugin(thing): pass",
            "test_it.py": """
                import pytest

                @pytest.mark.image("x")
                @pytest.mark.own
                def test_it() -> None:
                    pass

                @pytest.mark.parametrize("x", [1])
                class TestSub:
                    def test_it(self, x) -> None:
                        pass
            """,
        }
    )
    live.start(
        inifile=str(live.project / "pytest.ini"),
        options={"strict_markers": True, "strict_config": True},
        ini_names=("image_engine", "markers"),
        markers=("image(image): run inside",),
    )

    assert live.run("test_it.py::test_it").outcomes["call"] == "passed"


def test_conftest_files_of_folders_have_their_fixtures(worker: Makes) -> None:
    live = worker(
        {
            "conftest.py": "import pytest\n@pytest.fixture\ndef value(): return 1",
            "sub/conftest.py": "import pytest\n@pytest.fixture\ndef value(value): return value + 1",
            "sub/test_it.py": "def test_it(value): assert value == 2",
        }
    ).start()

    assert live.run("sub/test_it.py::test_it").failure == ""


def test_nothing_is_reported_to_a_terminal_of_the_worker(worker: Makes) -> None:
    live = worker(
        {
            "conftest.py": """
                def pytest_runtest_setup(item):
                    item.config.pluginmanager.get_plugin("terminalreporter").write_line("from a plugin")
            """,
            "test_it.py": "def test_it(): assert False",
        }
    ).start(options={"capture": "no", "verbose": 1})

    assert live.run("test_it.py::test_it").output == "from a plugin\n"
    assert live.finish() == []


def test_multiprocessing_by_spawn_and_by_fork_works(worker: Makes) -> None:
    live = worker(
        """
        import multiprocessing, pytest

        def double(number):
            return number * 2

        @pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
        def test_it(method) -> None:
            with multiprocessing.get_context(method).Pool(1) as pool:
                assert pool.map(double, [1]) == [2]
        """
    ).start()

    for method in ("spawn", "fork", "forkserver"):
        assert live.run(f"test_it.py::test_it[{method}]").failure == ""


def test_the_host_fixtures_say_where_they_belong(worker: Makes) -> None:
    live = worker("def test_build(image_build): pass\ndef test_container(image_container): pass").start()

    assert live.run("test_it.py::test_build").failure == (
        "Failed: image_build is a fixture of the host and cannot be used inside a container: "
        "request it in a test that has no image marker."
    )
    assert live.run("test_it.py::test_container").failure.startswith("Failed: image_container is a fixture of the host")


def test_a_payload_that_is_no_tar_is_an_error(worker: Makes) -> None:
    live = worker("def test_it(): pass").start(payload=b"x" * 2048)

    with pytest.raises(WorkerFailedToStart, match="tarfile"):
        live.run("test_it.py::test_it")


def test_a_worker_that_runs_nothing_ends_quietly(worker: Makes) -> None:
    live = worker("def test_it(): pass").start(payload=tar({}))

    assert live.finish() == []
    assert live.container.process.returncode == 0


def test_a_library_of_pytest_that_the_project_has_itself_takes_the_place_of_the_installed_one(worker: Makes) -> None:
    installed = {
        f"src/iniconfig/{file.name}": file.read_text() for file in Path(iniconfig.__file__).parent.glob("*.py")
    }
    installed["src/iniconfig/__init__.py"] += "\nMINE = True"
    test = """
        import iniconfig
        import _pytest.config.findpaths

        def test_it(image_host) -> None:
            assert image_host == "host"
            assert iniconfig.MINE
            assert _pytest.config.findpaths.iniconfig is iniconfig
    """
    live = worker({**installed, "test_it.py": test})
    path = (str(live.project / "src"), str(live.project))
    live.start(path=path, environment={"IMAGEBUILD_HOST": "host"})

    assert live.run("test_it.py::test_it").failure == ""


@pytest.mark.parametrize(("sent", "imports"), [(b"", True), (b"{", False)], ids=["nobody speaks", "somebody speaks"])
def test_a_worker_imports_what_comes_next_until_somebody_speaks(
    sent: bytes, imports: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported: list[str] = []
    monkeypatch.setattr(importlib, "import_module", imported.append)
    read, write = os.pipe()
    os.write(write, sent)
    _import_meanwhile(Requests(read))
    os.close(write)
    os.close(read)
    assert ("_pytest.skipping" in imported, "pytest_imagebuild.image.chain" in imported) == (imports, imports)
