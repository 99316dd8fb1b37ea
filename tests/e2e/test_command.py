"""The `imagebuild` command, run as a user runs it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from bases import OwnBase
from engines import EngineUnderTest, on_one_engine
from packages import index_of_the_host

BASE = "python:3.13-slim-trixie"


@pytest.fixture
def images(project: pytest.Pytester, nonce: str) -> pytest.Pytester:
    """Return a project with a module of images, and a test that uses one of them."""
    project.makepyfile(
        definitions=f"""
        from pytest_imagebuild import Image
        small = Image.from_registry("{BASE}").run_commands(": {nonce}")
        broken = small.run_commands("echo no luck; exit 3")
        """,
        test_small="""
        import pytest
        from definitions import small

        @pytest.mark.image(small)
        def test_it():
            pass
        """,
    )
    return project


def command(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return project.run(str(Path(sys.executable).with_name("imagebuild")), *arguments, timeout=120)


def test_build_builds_an_image_by_its_name_and_prints_what_the_engine_knows_it_by(
    images: pytest.Pytester, engine: EngineUnderTest
) -> None:
    first = command(images, "build", "definitions.py:small")
    second = command(images, "build", "definitions:small")
    assert (first.ret, second.ret) == (0, 0), first.stderr.str()
    assert re.search(rf"^definitions\.py:small: {engine.reference_pattern}$", first.stdout.str(), re.MULTILINE)
    assert re.search(r"built [12] in ", first.stdout.str())
    assert "built 0" in second.stdout.str()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"),
        ("PYTEST_ADDOPTS", "-p no:imagebuild"),
        ("PYTEST_ADDOPTS", "-p imagebuild"),
    ],
)
@on_one_engine()
def test_the_command_brings_the_plugin_where_pytest_does_not_load_it(
    images: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    images.makeini("[pytest]\naddopts = --strict-markers --strict-config\nimage = definitions.py:small\n")
    monkeypatch.setenv(variable, value)
    for arguments in (["build", "definitions.py:small"], ["lock"]):
        result = command(images, *arguments)
        assert (result.ret, result.stderr.str()) == (0, "")


def test_build_of_what_fails_says_why_and_ends_with_one(images: pytest.Pytester, engine: EngineUnderTest) -> None:
    result = command(images, "build", "definitions.py:broken", "definitions.py:small")
    assert result.ret == 1
    assert re.search(r"definitions\.py:\d+: run_commands\(.*\) failed", result.stderr.str())
    assert "exit code: 3" in result.stderr.str()
    assert re.search(rf"^definitions\.py:small: {engine.reference_pattern}$", result.stdout.str(), re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("definitions.py", "'definitions.py' does not name an image. Write FILE.py:NAME or MODULE:NAME."),
        ("nowhere.py:small", "nowhere.py does not exist"),
        ("nowhere:small", "module 'nowhere' cannot be imported"),
        ("definitions.py:tiny", "should name an Image, found nothing. Images in definitions.py: broken, small."),
    ],
)
@on_one_engine()
def test_a_name_that_is_no_image_is_explained(images: pytest.Pytester, name: str, sentence: str) -> None:
    result = command(images, "build", name)
    assert result.ret == 1
    assert sentence in result.stderr.str()
    assert "Traceback" not in result.stderr.str()


def test_ls_lists_built_layers_with_size_and_age(images: pytest.Pytester, nonce: str) -> None:
    assert command(images, "build", "definitions.py:small").ret == 0
    result = command(images, "ls")
    assert result.ret == 0
    sizes, ages = r" +[\d.]+ k?B +[\d.]+ MB", r" +\d+ s +\d+ s"
    line = rf'^[0-9a-f]{{12}}{sizes}{ages} +run_commands\(": {nonce}"\)  \[.*definitions\.py:2\]$'
    assert re.search(line, result.stdout.str(), re.MULTILINE), result.stdout.str()


def test_lock_writes_the_records_of_the_tests_and_drops_those_that_nothing_uses(images: pytest.Pytester) -> None:
    assert command(images, "lock").ret == 0
    lockfile = images.path / "imagebuild.lock"
    before = lockfile.read_text()
    assert f'reference = "{BASE}"' in before
    lockfile.write_text(before.replace("[[base]]", _unused() + "\n[[base]]", 1))
    assert command(images, "lock", "test_small.py").ret == 0
    assert "unused:1" in lockfile.read_text()
    assert command(images, "lock").ret == 0
    assert lockfile.read_text() == before


def test_lock_check_changes_nothing_and_fails_where_a_record_is_missing(images: pytest.Pytester) -> None:
    result = command(images, "lock", "--check")
    assert result.ret == 1
    assert "imagebuild.lock: no record for" in result.stderr.str()
    assert not (images.path / "imagebuild.lock").exists()
    assert command(images, "lock").ret == 0
    assert command(images, "lock", "--check").ret == 0


def test_lock_check_names_the_records_that_nothing_uses(images: pytest.Pytester) -> None:
    assert command(images, "lock").ret == 0
    lockfile = images.path / "imagebuild.lock"
    text = lockfile.read_text().replace("[[base]]", _unused() + "\n[[base]]", 1)
    lockfile.write_text(text)
    result = command(images, "lock", "--check")
    assert result.ret == 1
    assert result.stderr.lines == [
        "imagebuild: imagebuild.lock: no image uses the record of unused:1",
        "imagebuild: run `imagebuild lock` and commit the lockfile",
    ]
    assert lockfile.read_text() == text


def test_lock_builds_no_more_than_resolving_needs_and_upgrades_what_it_is_told_to(
    project: pytest.Pytester, engine: EngineUnderTest, base: OwnBase, nonce: str
) -> None:
    with index_of_the_host(engine.host_address) as index, engine.events() as events:
        project.makepyfile(
            test_it=f"""
            from pytest_imagebuild import Image
            below = Image.from_registry("{base.reference}").run_commands(": {nonce}")
            image = below.pip_install("demo").run_commands("exit 1")

            def test_nothing():
                pass
            """
        )
        index.publish("demo", "1.0")
        first = command(project, "lock")
        begun = len(events.created())
        second = command(project, "lock")
        check = command(project, "lock", "--check")
        untouched = len(events.created()) - begun
        commits = events.commits()
        index.publish("demo", "1.1")
        upgrade = command(project, "lock", "--upgrade")

    assert [first.ret, second.ret, check.ret, upgrade.ret] == [0, 0, 0, 0], first.stderr.str()
    assert commits == [f'from_registry("{base.reference}")', f'run_commands(": {nonce}")']
    assert untouched == 0, "a complete lockfile needs no container"
    assert first.stdout.lines[-1] == f"{project.path}/imagebuild.lock: 2 images, 1 install layers"
    assert check.stdout.lines == [f"{project.path}/imagebuild.lock: up to date"]
    assert 'version = "1.1"' in (project.path / "imagebuild.lock").read_text()


def test_lock_keeps_the_records_of_tests_that_the_ini_file_deselects_or_gives_to_xdist(
    project: pytest.Pytester,
) -> None:
    project.makepyfile(
        f"""
        import pytest
        from pytest_imagebuild import Image

        @pytest.mark.slow
        @pytest.mark.image(Image.from_registry("{BASE}"))
        def test_slow():
            pass

        def test_fast():
            pass
        """
    )
    project.makeini("[pytest]\nmarkers = slow\naddopts = -m 'not slow' -n 2\n")
    assert command(project, "lock").ret == 0
    assert f'reference = "{BASE}"' in (project.path / "imagebuild.lock").read_text()


def test_lock_where_no_test_is_collected_drops_nothing(images: pytest.Pytester) -> None:
    assert command(images, "lock").ret == 0
    before = (images.path / "imagebuild.lock").read_text()
    (images.path / "test_small.py").rename(images.path / "small_test_no_more.py")
    result = command(images, "lock")
    assert result.ret == 1
    assert "pytest collects no tests here (exit code 5)" in result.stderr.str()
    assert (images.path / "imagebuild.lock").read_text() == before


def test_build_heeds_the_variables_that_pytest_heeds(
    images: pytest.Pytester, base: OwnBase, nonce: str, monkeypatch: pytest.MonkeyPatch, engine: EngineUnderTest
) -> None:
    with engine.events() as events:
        images.makepyfile(
            definitions=f"""
            from pytest_imagebuild import Image
            small = Image.from_registry("{base.reference}").env({{"NONCE": "{nonce}"}})
            """
        )
        command(images, "build", "definitions.py:small")
        monkeypatch.setenv("MODAL_FORCE_BUILD", "1")
        command(images, "build", "definitions.py:small")
        assert len(events.commits()) == 4
        monkeypatch.delenv("MODAL_FORCE_BUILD")
        command(images, "build", "--force-build", "definitions.py:small")
        assert len(events.commits()) == 6
        command(images, "build", "definitions.py:small")
        assert len(events.commits()) == 6


@on_one_engine()
def test_lock_of_tests_that_cannot_be_collected_changes_nothing(images: pytest.Pytester) -> None:
    images.makepyfile(test_bad="import nothing_of_that_name")
    result = command(images, "lock")
    assert result.ret == 1
    assert "the tests cannot be collected" in result.stderr.str()
    assert not (images.path / "imagebuild.lock").exists()


def test_doctor_says_what_it_found_and_what_helps(
    images: pytest.Pytester, engine: EngineUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = command(images, "doctor")
    assert good.ret == 0
    assert set(_marks(good, engine.name)) == {"ok"}
    for name, value in engine.outage.environment.items():
        monkeypatch.setenv(name, value)
    bad = command(images, "doctor")
    assert bad.ret == 1
    assert "FAIL" in _marks(bad, engine.name)
    assert re.search(r"^  FAIL  .*\n {8,}\S", bad.stdout.str(), re.MULTILINE), bad.stdout.str()


def _marks(result: pytest.RunResult, engine: str) -> list[str]:
    """Return the marks of what doctor says of an engine."""
    found = re.search(rf"^{engine}:\n((?:  .*\n)+)", f"{result.stdout.str()}\n", re.MULTILINE)
    assert found, result.stdout.str()
    return re.findall(r"^  (ok|note|FAIL) ", found[1], re.MULTILINE)


def _unused() -> str:
    fields = {"reference": "unused:1", "platform": "linux/amd64", "source": "registry", "digest": f"sha256:{'0' * 64}"}
    return "\n".join(["[[base]]", *(f'{name} = "{value}"' for name, value in fields.items()), ""])
