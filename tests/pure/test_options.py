"""Flags, ini keys and environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest
from doubles import plugin_arguments

from pytest_imagebuild.options import INI_KEYS, Options, cache_dir, truthy

pytest_plugins = ["pytester"]


def options(pytester: pytest.Pytester, *arguments: str, ini: str = "", **environment: str) -> Options:
    pytester.makeini(f"[pytest]\n{ini}\n")
    config = pytester.parseconfig(*plugin_arguments(), *arguments)
    return Options.from_config(config, environment)


# switches of the environment ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "on"),
    [
        (None, False),
        ("", False),
        ("0", False),
        ("false", False),
        ("False", False),
        ("FALSE", False),
        ("1", True),
        ("true", True),
        ("no", True),
        ("off", True),
        ("00", True),
        (" ", True),
    ],
)
def test_a_switch_is_on_for_anything_but_nothing_0_and_false(value: str | None, on: bool) -> None:
    assert truthy(value) is on


@pytest.mark.parametrize(
    ("variable", "flag"), [("MODAL_FORCE_BUILD", "force_build"), ("MODAL_IGNORE_CACHE", "ignore_cache")]
)
def test_a_switch_of_the_environment_is_as_good_as_its_flag(
    pytester: pytest.Pytester, variable: str, flag: str
) -> None:
    assert getattr(options(pytester), flag) is False
    assert getattr(options(pytester, **{variable: "1"}), flag) is True
    assert getattr(options(pytester, **{variable: "false"}), flag) is False
    assert getattr(options(pytester, "--force-build", "--ignore-image-cache", **{variable: "0"}), flag) is True


# defaults and precedence --------------------------------------------------------------------------------------------


def test_the_defaults_are_auto_and_a_lockfile_beside_the_ini_file(pytester: pytest.Pytester) -> None:
    found = options(pytester, XDG_CACHE_HOME="/xdg")
    assert found == Options(
        engine="auto",
        builder_version="",
        lockfile=pytester.path / "imagebuild.lock",
        sync=(),
        cache_dir=Path("/xdg/imagebuild"),
        force_build=False,
        ignore_cache=False,
        locked=False,
        upgrade=None,
        build_only=False,
        on_host=False,
    )


def test_flag_beats_variable_beats_ini_for_the_engine(pytester: pytest.Pytester) -> None:
    ini = "image_engine = from-ini"
    assert options(pytester, ini=ini).engine == "from-ini"
    assert options(pytester, ini=ini, IMAGEBUILD_ENGINE="from-variable").engine == "from-variable"
    chosen = options(pytester, "--image-engine=from-flag", ini=ini, IMAGEBUILD_ENGINE="from-variable")
    assert chosen.engine == "from-flag"


def test_the_ini_keys_are_read(pytester: pytest.Pytester) -> None:
    ini = "image_builder_version = 2026.10\nimage_lockfile = locks/my.lock\nimage_sync =\n    src/**\n    !src/big/**"
    found = options(pytester, ini=ini)
    assert found.builder_version == "2026.10"
    assert found.lockfile == pytester.path / "locks" / "my.lock"
    assert found.sync == ("src/**", "!src/big/**")


def test_paths_are_relative_to_the_ini_file_wherever_pytest_was_started(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]\nimage_cache_dir = .cache/images\n")
    below = pytester.mkdir("below")
    monkeypatch.chdir(below)
    found = Options.from_config(pytester.parseconfig(*plugin_arguments(), str(below)), {})
    assert found.lockfile == pytester.path / "imagebuild.lock"
    assert found.cache_dir == pytester.path / ".cache" / "images"


def test_without_an_ini_file_the_lockfile_lies_in_the_root_folder(pytester: pytest.Pytester) -> None:
    found = Options.from_config(pytester.parseconfig(*plugin_arguments()), {})
    assert found.lockfile == pytester.path / "imagebuild.lock"


@pytest.mark.parametrize(
    ("environment", "ini", "found"),
    [
        ({"IMAGEBUILD_CACHE_DIR": "/named", "XDG_CACHE_HOME": "/xdg"}, "/ini", "/named"),
        ({"IMAGEBUILD_CACHE_DIR": "~/c"}, "", "/home/me/c"),
        ({"IMAGEBUILD_CACHE_DIR": "", "XDG_CACHE_HOME": "/xdg"}, "/ini", "/ini"),
        ({"XDG_CACHE_HOME": "/xdg"}, "cache", "/project/cache"),
        ({}, "~/c", "/home/me/c"),
        ({"XDG_CACHE_HOME": "/xdg"}, "", "/xdg/imagebuild"),
        ({"XDG_CACHE_HOME": ""}, "", "/home/me/.cache/imagebuild"),
        ({}, "", "/home/me/.cache/imagebuild"),
    ],
)
def test_the_cache_is_where_the_variable_else_the_ini_key_else_the_users_cache_says(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], ini: str, found: str
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_dir(environment, ini, Path("/project")) == Path(found)


def test_every_ini_key_can_be_written_in_an_ini_file_under_strict_config(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\n" + "".join(f"{name} = x\n" for name in INI_KEYS))
    config = pytester.parseconfig(*plugin_arguments(), "--strict-config", "--no-image")
    assert all(config.getini(name) for name in INI_KEYS)


# the lockfile's flags -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "upgrade"),
    [
        ([], None),
        (["--image-lock-upgrade"], frozenset()),
        (["--image-lock-upgrade=numpy"], frozenset({"numpy"})),
        (["--image-lock-upgrade=numpy, six,,debian:trixie"], frozenset({"numpy", "six", "debian:trixie"})),
        (["--image-lock-upgrade", "numpy"], frozenset({"numpy"})),
        (["tests", "--image-lock-upgrade"], frozenset()),
    ],
)
def test_an_upgrade_takes_names_or_means_everything(
    pytester: pytest.Pytester, arguments: list[str], upgrade: frozenset[str] | None
) -> None:
    pytester.mkdir("tests")
    assert options(pytester, *arguments).upgrade == upgrade


def test_locked_and_upgrade_contradict_each_other(pytester: pytest.Pytester) -> None:
    with pytest.raises(pytest.UsageError) as caught:
        options(pytester, "--image-locked", "--image-lock-upgrade")
    assert str(caught.value) == "--image-locked and --image-lock-upgrade contradict each other: use one of them."


@pytest.mark.parametrize("path", ["tests", "tests/", "tests/test_a.py", "tests/test_a.py::test_x", "."])
def test_an_upgrade_that_took_a_path_for_a_name_says_how_to_write_it(pytester: pytest.Pytester, path: str) -> None:
    (pytester.mkdir("tests") / "test_a.py").touch()
    with pytest.raises(pytest.UsageError) as caught:
        options(pytester, "--image-lock-upgrade", path)
    assert str(caught.value) == (
        f"--image-lock-upgrade took {path!r}, which is a path, for the name of a package. Write "
        "--image-lock-upgrade=NAME to resolve one package again, or put the flag after the paths: "
        f"pytest {path} --image-lock-upgrade."
    )


def test_an_upgrade_in_addopts_that_took_a_path_is_noticed(pytester: pytest.Pytester) -> None:
    pytester.mkdir("tests")
    pytester.makeini("[pytest]\naddopts = --image-lock-upgrade\n")
    config = pytester.parseconfig("tests", *plugin_arguments())
    with pytest.raises(pytest.UsageError, match=r"--image-lock-upgrade took 'tests', which is a path"):
        Options.from_config(config, {})


def test_a_package_with_the_name_of_a_folder_can_be_upgraded(pytester: pytest.Pytester) -> None:
    pytester.mkdir("numpy")
    assert options(pytester, "--image-lock-upgrade=numpy").upgrade == frozenset({"numpy"})


# kept containers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "ini", "seconds"),
    [
        ((), "", None),
        (("--image-keep",), "", 600),
        ((), "image_keep = 30m", 1800),
        (("--image-keep",), "image_keep = 1h", 3600),
        ((), "image_keep =", None),
    ],
)
def test_containers_wait_as_long_as_the_ini_file_or_the_flag_says(
    pytester: pytest.Pytester, arguments: tuple[str, ...], ini: str, seconds: float | None
) -> None:
    assert options(pytester, *arguments, ini=ini).keep == seconds


def test_a_time_to_wait_that_is_none_is_answered_with_examples(pytester: pytest.Pytester) -> None:
    with pytest.raises(pytest.UsageError, match=r"image_keep in the ini file: 'soon' is not a time\. Write a number"):
        options(pytester, ini="image_keep = soon")
