"""`imagebuild export`: archives that engines load again, and Dockerfiles that Docker builds; and images with names."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from engines import CHOSEN, EngineUnderTest, on_one_engine, only
from packages import index_of_the_host

BASE = "python:3.13-slim-trixie"
ADDRESSES = [name for name in ("DOCKER_HOST", "IMAGEBUILD_TEST_DOCKER_CURRENT") if name in os.environ]
LOOK = r"""cd /srv && find . -printf '%p %m %l\n' | sort; cat data/a.txt; pwd; echo "$GREETING"; cat /made /multi
ls /opt; pip list --format=freeze; python -c 'import demo; print(demo.version)'"""


def command(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return project.run(str(Path(sys.executable).with_name("imagebuild")), *arguments, timeout=120)


@contextlib.contextmanager
def removed(*names: str) -> Iterator[None]:
    """Remove images of these names from every Docker at the end."""
    yield
    for variable in ADDRESSES if "docker" in CHOSEN else []:
        with contextlib.closing(docker.DockerClient(base_url=os.environ[variable])) as client:
            for name in names:
                if client.images.list(name):
                    client.images.remove(name, force=True)


def define(project: pytest.Pytester, text: str) -> None:
    project.makepyfile(definitions=f"from pytest_imagebuild import Image\n{text}")


# archives -----------------------------------------------------------------------------------------------------------


def test_an_exported_image_is_imported_and_tests_run_in_it(
    project: pytest.Pytester, engine: EngineUnderTest, nonce: str
) -> None:
    name = f"exported/{nonce}:v1"
    define(project, f'small = Image.from_registry("{BASE}").run_commands("echo {nonce} > /made").env({{"A": "b c"}})')
    with removed(name):
        export = command(project, "export", "definitions.py:small", "--oci", "small.tar", "--name", name)
        assert export.ret == 0, export.stderr.str()
        said = export.stdout.lines[-1]
        assert re.fullmatch(rf"small\.tar: {name}, [\d.]+ MB; load it with `docker load -i small\.tar`", said)
        assert [path.name for path in project.path.glob(".*.tar*")] == []
        imported = command(project, "import", "small.tar")
        assert imported.stdout.lines == [f'{name}: Image.from_registry("{name}")'], imported.stderr.str()
        project.makepyfile(
            f"""
            import os
            from pathlib import Path
            import pytest
            from pytest_imagebuild import Image

            @pytest.mark.image(Image.from_registry("{name}"))
            def test_it():
                assert Path("/made").read_text() == "{nonce}\\n"
                assert os.environ["A"] == "b c"
            """
        )
        project.runpytest().assert_outcomes(passed=1)


def test_an_archive_is_named_after_the_variable_and_leaves_out_what_a_start_puts_in_place(
    project: pytest.Pytester, engine: EngineUnderTest
) -> None:
    define(project, f'MY__Image_ = Image.from_registry("{BASE}").add_local_file("definitions.py", "/d")')
    result = command(project, "export", "definitions:MY__Image_", "--oci", "it.tar")
    assert result.ret == 0, result.stderr.str()
    with tarfile.open(project.path / "it.tar") as tar:
        (saved,) = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert saved["RepoTags"] == ["my_image:latest"]
    assert result.stdout.lines[-2] == (
        'add_local_file("definitions.py", "/d") is put in place when a container starts, so the archive is without it: '
        "copy=True"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--oci", "x.tar", "--name", "Bad Name"], "--name 'Bad Name' cannot name an image. Write NAME or NAME:TAG"),
        (["--oci", "."], "--oci . should name a file, found a folder. Write image.tar."),
        (["--oci", "nowhere/x.tar"], "the image archive nowhere/x.tar cannot be written: No such file or directory."),
        (
            ["--dockerfile", "--name", "x"],
            "--name is for --oci: a Dockerfile has no name; `docker build -t` gives one.",
        ),
    ],
)
@on_one_engine()
def test_wrong_use_is_explained(
    project: pytest.Pytester, engine: EngineUnderTest, arguments: list[str], sentence: str
) -> None:
    define(project, f'small = Image.from_registry("{BASE}")')
    result = command(project, "export", "definitions.py:small", *arguments)
    assert result.ret == 1
    assert sentence in result.stderr.str()
    assert "Traceback" not in result.stderr.str()


# Dockerfiles --------------------------------------------------------------------------------------------------------


@only("docker")
@pytest.mark.parametrize("variable", ADDRESSES)
def test_docker_builds_the_same_image_from_an_exported_dockerfile(
    project: pytest.Pytester, engine: EngineUnderTest, nonce: str, variable: str
) -> None:
    for name, text in {"data/a.txt": "a\n", "data/b.log": "b\n", "data/deep/c.txt": "c\n", "req.txt": "demo\n"}.items():
        path = project.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (project.path / "data/deep/c.txt").chmod(0o750)
    tag = f"dockerfile/{nonce}:1"
    with index_of_the_host(engine.host_address) as index, removed(tag):
        index.publish("demo", "1.0")
        define(
            project,
            f"""
small = (
    Image.from_registry("{BASE}")
    .pip_install_from_requirements(
        "req.txt", index_url="{index.url}", extra_options="--trusted-host {index.host}", env={{"LENT": "here only"}}
    )
    .add_local_dir("data", "/srv/data", copy=True, ignore=["*.log"])
    .add_local_file("req.txt", "/srv/", copy=True)
    .run_commands("echo $LENT-{nonce} > /made", "printf 'a\\\\n'\\nprintf 'b\\\\n' > /multi", env={{"LENT": "it's"}})
    .env({{"GREETING": "it's \\"you\\" $HOME"}})
    .workdir("/srv")
    .workdir("data")
)
""",
        )
        built = command(project, "build", "definitions.py:small")
        assert built.ret == 0, built.stderr.str()
        reference = next(line for line in built.stdout.lines if line.startswith("definitions.py:small: ")).split()[-1]
        exported = command(project, "export", "definitions.py:small", "--dockerfile")
        assert exported.ret == 0, exported.stderr.str()
        text = exported.stdout.str()
        assert f"FROM {BASE}@sha256:" in text
        (project.path / "Dockerfile").write_text(text)
        (project.path / ".dockerignore").write_text("data/*.log\n")
        with contextlib.closing(docker.DockerClient(base_url=os.environ[variable])) as client:
            client.images.build(path=str(project.path), tag=tag, rm=True, network_mode="host")
            theirs = client.containers.run(tag, ["sh", "-c", LOOK], remove=True).decode()
            config = client.images.get(tag).attrs["Config"]
    ours = engine.output_of(reference, ["sh", "-c", LOOK])
    assert theirs == ours
    assert f"it's-{nonce}" in ours
    assert "b.log" not in ours
    assert "LENT" not in json.dumps(config["Env"])


# names --------------------------------------------------------------------------------------------------------------


def test_a_program_builds_and_names_an_image_and_tests_begin_with_it(
    project: pytest.Pytester, engine: EngineUnderTest, nonce: str
) -> None:
    define(project, f'small = Image.from_registry("{BASE}").run_commands("echo {nonce}; echo {nonce} > /made")')
    project.makepyfile(
        publish=f"""
        from definitions import small
        assert small.build() is small
        print(small.object_id, small.logs.tail(1))
        small.publish("e2e/{nonce}")
        """,
        test_it=f"""
        from pathlib import Path
        import pytest
        from pytest_imagebuild import Image

        @pytest.mark.image(Image.from_name("e2e/{nonce}").run_commands("echo more >> /made"))
        def test_it():
            assert Path("/made").read_text() == "{nonce}\\nmore\\n"
        """,
    )
    published = project.runpython(project.path / "publish.py")
    assert published.ret == 0, published.stderr.str()
    assert re.fullmatch(rf"im-[0-9a-f]{{22}} \('{nonce}',\)", published.stdout.lines[-1])
    project.runpytest().assert_outcomes(passed=1)
    assert f"[published as e2e/{nonce}:latest]" in command(project, "ls").stdout.str()
    assert nonce not in (project.path / "imagebuild.lock").read_text()
    assert command(project, "unpublish", f"e2e/{nonce}").stdout.lines == [f"e2e/{nonce}:latest names no image any more"]
    project.runpytest().assert_outcomes(errors=1)


def test_in_a_run_of_pytest_an_image_is_built_on_its_engine_and_once(
    project: pytest.Pytester, engine: EngineUnderTest, nonce: str
) -> None:
    project.makepyfile(
        f"""
        import pytest
        from pytest_imagebuild import Image

        image = Image.from_registry("{BASE}").run_commands("echo {nonce}")
        image.build()

        def test_on_the_host():
            assert image.object_id is not None
            assert image.logs.fetch() == ("{nonce}",)

        @pytest.mark.image(image)
        def test_inside():
            assert image.build() is image
            assert image.object_id is None
        """
    )
    with engine.events() as events:
        result = project.runpytest()
        made = events.commits()
    result.assert_outcomes(passed=2)
    assert [step for step in made if nonce in step] == [f'run_commands("echo {nonce}")']
