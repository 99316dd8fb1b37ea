"""A project of many files: it is kept in the engine, and each run has the files that are on the host then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bases import OwnBase
from engines import EngineUnderTest
from gate import Gate
from inner import Inner, Ran
from observing import wait_until
from pruning import MINE

FILES = 150
LOCKFILE = "imagebuild.lock"

TESTS = """
    import json
    import os
    import subprocess
    import sys
    from pathlib import Path

    import pytest
    from pytest_imagebuild import Image

    image = Image.from_registry("{base}").env({{"NONCE": "{nonce}"}})


    def show():
        found = {{}}
        for path in sorted(Path(__file__).parent.rglob("*")):
            if "__pycache__" in path.parts:
                continue
            if path.is_symlink():
                found[str(path)] = ["link", str(path.readlink()), 0]
            elif path.is_file():
                found[str(path)] = [path.read_text(), oct(path.stat().st_mode), int(path.stat().st_mtime)]
            else:
                found[str(path)] = ["folder", "", 0]
        print("", json.dumps(found), sep="\\n")


    @pytest.mark.image(image)
    def test_files():
        show()
        Path(__file__).with_name("written.txt").write_text("by a test")
        (Path(__file__).parent / "package/module_1.py").write_text("overwritten by a test")


    @pytest.mark.image(image, isolation="test")
    def test_alone():
        show()
    """


@pytest.fixture
def project(tmp_path: Path, engine: EngineUnderTest, base: OwnBase, nonce: str) -> Iterator[Inner]:
    made = Inner(tmp_path, engine)
    modules = {f"package/module_{number}.py": f"NUMBER = {number}\n" for number in range(FILES)}
    tests = TESTS.format(base=base.reference, nonce=nonce)
    made.write({"pytest.ini": "[pytest]\n", "test_it.py": tests, "lonely/one.py": "", **modules})
    (made.folder / "link").symlink_to("package/module_0.py")
    time.sleep(1.1)  # what was written right before it is kept counts as changed
    yield made
    engine.remove_layers(nonce)


def run(project: Inner, *arguments: str) -> Ran:
    return project.run("-s", "-p", "no:cacheprovider", "-k", "files", *arguments)


def on_host(project: Inner) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    for path in sorted(project.folder.rglob("*")):
        if path.name == LOCKFILE:
            continue
        if path.is_symlink():
            found[str(path)] = ["link", str(path.readlink()), 0]
        elif path.is_file():
            found[str(path)] = [path.read_text(), oct(path.stat().st_mode), int(path.stat().st_mtime)]
        elif any(below.is_file() or below.is_symlink() for below in path.rglob("*")):
            found[str(path)] = ["folder", "", 0]
    return found


def inside(ran: Ran) -> dict[str, list[object]]:
    assert "1 passed" in ran.out, ran.text
    found: dict[str, list[object]] = json.loads(next(line for line in ran.lines if line.startswith("{")))
    return {path: what for path, what in found.items() if Path(path).name != LOCKFILE}


def kept(engine: EngineUnderTest, project: Inner) -> dict[str, str]:
    return engine.layers(f"the project {project.folder}")


def noted(engine: EngineUnderTest, key: str) -> list[Path]:
    """Return what is there of the note of a project layer. `key` is how an engine names the layer."""
    return list((engine.cache_dir / "projects").glob(f"*/*{key.rpartition(':')[2]}*"))


def prune(project: Inner, nonce: str, *arguments: str) -> None:
    environment = {**os.environ, **project.engine.environment}
    command = [sys.executable, "-c", MINE, nonce, "", "prune", *arguments]
    subprocess.run(command, cwd=project.folder, env=environment, check=True, capture_output=True, timeout=120)


def test_each_run_has_the_files_of_the_host_whatever_was_done_to_them(project: Inner, engine: EngineUnderTest) -> None:
    package = project.folder / "package"
    assert inside(run(project)) == on_host(project)
    first = kept(engine, project)
    assert len(first) == 1

    (package / "module_2.py").write_text("EDITED = 1\n")
    (package / "module_3.py").unlink()
    (package / "module_4.py").chmod(0o755)
    os.utime(package / "module_5.py", (1_000_000_000, 1_000_000_000))
    (package / "new.py").write_text("NEW = 1\n")
    (package / "module_6.py").unlink()
    (package / "module_6.py").mkdir()
    (package / "module_6.py/below.py").write_text("BELOW = 1\n")
    (project.folder / "lonely/one.py").unlink()
    (project.folder / "link").unlink()
    (project.folder / "link").symlink_to("package/module_7.py")
    edited = run(project)

    assert inside(edited) == on_host(project)
    assert not any("lonely" in path for path in inside(edited))
    assert "built 0" in edited.out
    assert inside(run(project, "-k", "alone")) == on_host(project)
    assert kept(engine, project) == first, "so little is sent"


def test_where_much_has_changed_it_is_kept_anew(project: Inner, engine: EngineUnderTest) -> None:
    assert inside(run(project)) == on_host(project)
    first = kept(engine, project)

    for number in range(FILES):
        (project.folder / f"package/module_{number}.py").write_text("AGAIN = 1\n")
    time.sleep(1.1)
    again = run(project)

    assert inside(again) == on_host(project)
    assert "built 0" in again.out
    second = kept(engine, project)
    assert (len(second), second == first) == (1, False)
    assert inside(run(project)) == on_host(project)
    assert kept(engine, project) == second


WAITS = """
    import os
    from pathlib import Path


    def pytest_runtest_logfinish(nodeid):
        if "dies" in nodeid and Path({outside!r}).exists():
            {wait}
    """
DIES = """
    import os

    import pytest
    from test_it import image

    @pytest.mark.image(image)
    def test_dies():
        os._exit(3)

    @pytest.mark.image(image)
    def test_after():
        assert not os.path.exists("new.txt")
    """


def test_a_run_that_began_before_has_what_it_began_with_however_long_it_takes(
    project: Inner, engine: EngineUnderTest
) -> None:
    layer = f"the project {project.folder}"
    outside = project.home / "outside"
    outside.touch()
    with Gate("127.0.0.1") as gate:
        project.write({"conftest.py": WAITS.format(outside=str(outside), wait=gate.wait), "test_long.py": DIES})
        long = project.begin("-p", "no:cacheprovider", "test_long.py")
        wait_until("its first container to be gone", gate.reached, timeout=60)
        first = kept(engine, project)
        for number in range(FILES):
            (project.folder / f"package/module_{number}.py").write_text("AGAIN = 1\n")
        assert inside(run(project, "test_it.py")) == on_host(project)
        assert kept(engine, project) != first
        engine.sweep_settled(layer)
        gate.open()
        ran = long.wait()

    assert "1 failed, 1 passed" in ran.out, ran.text
    assert "something removed it" not in ran.text
    engine.sweep_settled(layer)
    assert engine.remains(layer) == []


def test_one_is_kept_for_a_cache_that_is_ignored_no_more_than_for_a_small_project(
    project: Inner, engine: EngineUnderTest
) -> None:
    assert inside(run(project, "--ignore-image-cache")) == on_host(project)
    assert kept(engine, project) == {}
    for number in range(100):
        (project.folder / f"package/module_{number}.py").unlink()
    assert inside(run(project)) == on_host(project)
    assert kept(engine, project) == {}


def test_a_layer_that_is_gone_is_made_anew_and_so_is_one_below_which_all_is_new(
    project: Inner, engine: EngineUnderTest
) -> None:
    assert inside(run(project)) == on_host(project)
    engine.remove_layers(f"the project {project.folder}")
    assert inside(run(project)) == on_host(project)
    second = kept(engine, project)
    assert len(second) == 1

    forced = run(project, "--force-build")

    assert inside(forced) == on_host(project)
    assert kept(engine, project) != second
    assert inside(run(project)) == on_host(project)


def test_what_was_noted_of_one_goes_with_it(project: Inner, engine: EngineUnderTest, nonce: str) -> None:
    assert inside(run(project)) == on_host(project)
    ((key, first),) = kept(engine, project).items()
    prune(project, nonce)
    assert len(noted(engine, key)) == 1
    engine.remove_layers(f"the project {project.folder}")
    prune(project, nonce)
    assert noted(engine, key) == []

    assert inside(run(project)) == on_host(project)
    assert kept(engine, project)[key] != first
    assert len(noted(engine, key)) == 1
    prune(project, nonce, "--older-than", "0h")
    assert kept(engine, project) == {}
    assert noted(engine, key) == []


def test_workers_of_xdist_keep_one(project: Inner, engine: EngineUnderTest) -> None:
    ran = project.run("-n", "2", "-p", "no:cacheprovider")
    assert "2 passed" in ran.out, ran.text
    assert len(kept(engine, project)) == 1


def test_a_volume_in_the_project_hides_no_file(project: Inner, engine: EngineUnderTest) -> None:
    (project.folder / "test_it.py").write_text(
        (project.folder / "test_it.py")
        .read_text()
        .replace(
            "pytest.mark.image(image)", f'pytest.mark.image(image, volumes={{"{project.folder}/package": VOLUME}})'
        )
        .replace("import Image\n", "import Image, Volume\n\nVOLUME = Volume.ephemeral()\n")
    )
    assert inside(run(project)).keys() == on_host(project).keys()
    assert kept(engine, project) == {}


def test_a_project_that_is_too_large_is_an_error_of_its_tests(project: Inner, engine: EngineUnderTest) -> None:
    with (project.folder / "huge.bin").open("wb") as file:
        file.truncate(1 << 40)
    ran = project.run("-p", "no:cacheprovider")
    assert "2 errors" in ran.out, ran.text
    assert f"The project tree {project.folder} is larger than 512 MiB" in ran.out
    assert "INTERNALERROR" not in ran.text
    assert kept(engine, project) == {}
