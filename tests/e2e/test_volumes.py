"""Volumes in steps and in tests: what is written there is there for the next run, or for this run alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest
from engines import EngineUnderTest
from observing import wait_until
from running import Running

BASE = "python:3.13-slim-trixie"
TIMEOUT = 200

PROJECT = """
    from pathlib import Path

    import pytest
    from pytest_imagebuild import Image, Volume

    volume = Volume.from_name("{name}", create_if_missing=True)
    image = Image.from_registry("{base}").run_commands(
        "echo {nonce} >> /models/built; ls /models > /seen",
        volumes={{"/models": volume}},
    )


    @pytest.mark.image(image)
    def test_the_image_has_an_empty_folder():
        assert list(Path("/models").iterdir()) == []
        assert "built" in Path("/seen").read_text()


    @pytest.mark.image(image, volumes={{"/data/": volume}})
    def test_a_test_reads_what_the_step_wrote():
        volume.reload()
        assert Path("/data/built").read_text() == "{nonce}\\n"
        with Path("/data/tests").open("a") as file:
            file.write("ran\\n")
        volume.commit()


    @pytest.mark.image(image, volumes={{"/data": volume}})
    def test_a_later_test_reads_what_an_earlier_one_wrote():
        print("runs:", Path("/data/tests").read_text().count("ran"))


    @pytest.mark.image(image, volumes={{"/data": volume.read_only()}})
    def test_a_read_only_volume_takes_nothing():
        assert Path("/data/built").exists()
        with pytest.raises(OSError, match="Read-only file system"):
            Path("/data/new").touch()


    @pytest.mark.parametrize("number", range(3))
    @pytest.mark.image(image, volumes={{"/data": volume}}, isolation="test")
    def test_each_isolated_test_has_the_volume(number):
        assert not Path("/own").exists()
        Path("/own").touch()
        assert Path("/data/built").exists()
        with Path("/data/isolated").open("a+") as file:
            file.seek(0)
            assert len(file.readlines()) % 3 == number, "each sees what those before it wrote"
            file.write("ran\\n")


    @pytest.mark.image(image, volumes={{"/data": volume.read_only()}}, isolation="test")
    def test_an_isolated_test_cannot_write_to_a_read_only_one():
        assert Path("/data/built").exists()
        with pytest.raises(OSError, match="Read-only file system"):
            Path("/data/new").touch()
    """

EPHEMERAL = """
    from pathlib import Path

    import pytest
    from pytest_imagebuild import Image, Volume

    one, other = (Image.from_registry("{base}").env({{"NUMBER": number}}) for number in "12")

    with Volume.ephemeral() as volume:
        @pytest.mark.image(one, volumes={{"/shared": volume}})
        def test_it_begins_empty():
            assert list(Path("/shared").iterdir()) == []
            Path("/shared/text").write_text("from one image")

    @pytest.mark.image(other, volumes={{"/shared": volume}})
    def test_another_image_sees_it():
        assert Path("/shared/text").read_text() == "from one image"

    @pytest.mark.image(other, volumes={{"/shared": Volume.ephemeral()}})
    def test_another_volume_is_empty():
        assert list(Path("/shared").iterdir()) == []
    """

HOLDS = """
    import time
    from pathlib import Path

    import pytest
    from pytest_imagebuild import Image, Volume

    @pytest.mark.image(
        Image.from_registry("{base}"),
        volumes={{"/data": Volume.from_name("{name}"), "/own": Volume.ephemeral()}},
    )
    def test_holds():
        Path("/own/x").touch()
        Path("/begun").touch()
        time.sleep(600)
    """


@pytest.fixture
def name(project: pytest.Pytester, nonce: str) -> Iterator[str]:
    """The name of a volume that nobody else has; it may not be there."""
    name = f"e2e-{nonce[:12]}"
    yield name
    if name in volumes(project):
        assert command(project, "rm", name).ret == 0


@pytest.fixture
def holder(project: pytest.Pytester, engine: EngineUnderTest, name: str) -> Iterator[Running]:
    """A run whose test has a named and an ephemeral volume, and sleeps."""
    assert command(project, "create", name).ret == 0
    project.makepyfile(HOLDS.format(base=BASE, name=name))
    with Running(project.path) as run:
        wait_until(
            "the test to begin",
            run.while_alive(lambda: any(engine.has_file(one, "/begun") for one in engine.containers())),
            timeout=TIMEOUT,
        )
        yield run


def command(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    program = [sys.executable, "-c", "import sys; from pytest_imagebuild.cli import main; sys.exit(main())"]
    return project.run(*program, "volume", *arguments, timeout=120)


def volumes(project: pytest.Pytester) -> dict[str, dict[str, object]]:
    listed = command(project, "ls", "--json")
    assert listed.ret == 0, listed.stderr.str()
    return {volume["name"]: volume for volume in json.loads(listed.stdout.str())}


def write(project: pytest.Pytester, source: str, **values: str) -> None:
    project.makepyfile(source.format(base=BASE, **values))


def test_what_steps_and_tests_write_is_there_in_the_next_run(
    project: pytest.Pytester, engine: EngineUnderTest, name: str, nonce: str
) -> None:
    write(project, PROJECT, name=name, nonce=nonce)
    first = project.runpytest_subprocess("-rP", timeout=TIMEOUT)
    first.assert_outcomes(passed=8)
    first.stdout.fnmatch_lines(["runs: 1"])
    second = project.runpytest_subprocess("-rP", timeout=TIMEOUT)
    second.assert_outcomes(passed=8)
    second.stdout.fnmatch_lines(["runs: 2"])
    assert "built 0" in second.stdout.str()
    size = volumes(project)[name]["size"]
    assert isinstance(size, int)
    assert size > 0
    assert engine.remains(nonce) == []
    engine.remove_layers(nonce)


def test_workers_of_xdist_share_a_named_volume(project: pytest.Pytester, name: str, nonce: str) -> None:
    write(
        project,
        """
        import os
        import time
        from pathlib import Path

        import pytest
        from pytest_imagebuild import Image, Volume

        volume = Volume.from_name("{name}", create_if_missing=True)


        @pytest.mark.parametrize("number", range(2))
        @pytest.mark.image(Image.from_registry("{base}"), volumes={{"/data": volume}}, timeout=60)
        def test_meets_the_other(number):
            Path(f"/data/{{number}}").touch()
            while not Path(f"/data/{{1 - number}}").exists():
                time.sleep(0.05)
        """,
        name=name,
    )
    project.runpytest_subprocess("-n", "2", timeout=TIMEOUT).assert_outcomes(passed=2)


def test_an_ephemeral_volume_is_shared_in_a_run_and_gone_after_it(
    project: pytest.Pytester, engine: EngineUnderTest, nonce: str
) -> None:
    write(project, EPHEMERAL)
    for _ in range(2):
        project.runpytest_subprocess(timeout=TIMEOUT).assert_outcomes(passed=3)
        assert ephemeral_volumes(engine) == []


def test_the_next_run_removes_the_ephemeral_volumes_of_a_killed_one_and_no_other(
    project: pytest.Pytester, engine: EngineUnderTest, holder: Running, name: str, nonce: str
) -> None:
    assert len(ephemeral_volumes(engine)) == 1
    holder.kill()
    write(project, EPHEMERAL)

    def swept() -> bool:
        # The daemon may need a moment until it lets go of the volumes of a container that it removes.
        project.runpytest_subprocess(timeout=TIMEOUT).assert_outcomes(passed=3)
        return not ephemeral_volumes(engine)

    wait_until("the volume to be swept", swept, timeout=TIMEOUT)
    assert name in volumes(project)
    assert engine.remains(nonce) == []


def test_a_volume_in_use_stays(project: pytest.Pytester, holder: Running, name: str) -> None:
    assert volumes(project)[name]["in_use"] is True
    result = command(project, "rm", name)
    assert result.ret == 1
    assert result.stderr.lines == [
        f"imagebuild: the volume '{name}' is in use: a container has it mounted. Remove it when that has ended"
    ]
    assert name in volumes(project)


def test_the_command_makes_lists_and_removes(project: pytest.Pytester, engine: EngineUnderTest, name: str) -> None:
    assert command(project, "create", name).stdout.lines == [f"made {name} on the {engine.name} engine"]
    listed = command(project, "ls").stdout.lines
    assert any(line.split()[:3] == [name, "0", "B"] for line in listed)
    assert f"volumes on the {engine.name} engine, " in listed[-1]
    pruned = project.run(
        *(sys.executable, "-c", "import sys; from pytest_imagebuild.cli import main; sys.exit(main())"),
        *("prune", "--dry-run"),
        timeout=120,
    )
    assert name not in pruned.stdout.str()
    assert command(project, "rm", name).stdout.lines == [f"removed {name}, freed 0 B"]
    again = command(project, "rm", name)
    assert again.ret == 1
    assert again.stderr.lines == [
        f"imagebuild: there is no volume '{name}' on the {engine.name} engine; see `imagebuild volume ls`"
    ]


def test_a_missing_volume_of_a_step_is_told_at_the_line_of_the_step(
    project: pytest.Pytester, engine: EngineUnderTest, name: str
) -> None:
    write(
        project,
        """
        import pytest
        from pytest_imagebuild import Image, Volume

        volume = Volume.from_name("{name}")
        image = Image.from_registry("{base}").run_commands("echo {name}", volumes={{"/models": volume}})

        @pytest.mark.image(image)
        def test_it():
            pass
        """,
        name=name,
    )
    result = project.runpytest_subprocess(timeout=TIMEOUT)
    result.assert_outcomes(errors=1)
    file = next(project.path.glob("test_*.py"))
    assert (
        f"{file}:5: the volume '{name}' for /models does not exist on the {engine.name} engine. Make it with "
        f"`imagebuild volume create {name}`, or write Volume.from_name('{name}', create_if_missing=True)."
    ) in " ".join(result.stdout.str().split())
    assert name not in volumes(project)


def test_a_missing_volume_of_a_test_is_told_at_the_line_that_names_it(
    project: pytest.Pytester, engine: EngineUnderTest, name: str
) -> None:
    write(
        project,
        """
        import pytest
        from pytest_imagebuild import Image, Volume

        image = Image.from_registry("{base}")
        volume = Volume.from_name("{name}")

        @pytest.mark.image(image, volumes={{"/models": volume}})
        def test_it():
            pass

        @pytest.mark.image(image)
        def test_without():
            pass
        """,
        name=name,
    )
    result = project.runpytest_subprocess(timeout=TIMEOUT)
    result.assert_outcomes(errors=1, passed=1)
    file = next(project.path.glob("test_*.py"))
    assert (
        f"{file}:5: the volume '{name}' for /models does not exist on the {engine.name} engine. Make it with "
        f"`imagebuild volume create {name}`, or write Volume.from_name('{name}', create_if_missing=True)."
    ) in " ".join(result.stdout.str().split())


def test_a_volume_that_would_take_the_project_is_refused(project: pytest.Pytester, name: str) -> None:
    write(
        project,
        """
        import pytest
        from pytest_imagebuild import Image, Volume

        volume = Volume.from_name("{name}", create_if_missing=True)

        @pytest.mark.image(Image.from_registry("{base}"), volumes={{"{path}": volume}})
        def test_it():
            pass
        """,
        name=name,
        path=str(project.path.parent),
    )
    result = project.runpytest_subprocess(timeout=TIMEOUT)
    result.assert_outcomes(errors=1)
    file = next(project.path.glob("test_*.py"))
    assert (
        f"{file}:4: a volume cannot be mounted at {project.path.parent}: the project, in {project.path}, has its place "
        "there in the container. Mount it at another path, or at one inside of the project."
    ) in " ".join(result.stdout.str().split())
    assert name not in volumes(project)


def ephemeral_volumes(engine: EngineUnderTest) -> list[str]:
    """Return the ephemeral volumes of the runs with this cache folder, seen from behind the plugin."""
    if engine.name == "embedded":
        store = engine.cache_dir / "embedded"
        return [str(folder) for part in (store, *store.glob("ids-*")) for folder in part.glob("scratch/*/volume-*")]
    import docker

    found = docker.from_env().api.volumes(filters={"label": "imagebuild.lock"})["Volumes"] or []
    return [volume["Name"] for volume in found if str(engine.cache_dir) in volume["Labels"]["imagebuild.lock"]]
