"""Builds with secrets: who gets the values, and that nothing else does."""

from __future__ import annotations

import json
import logging
import traceback
from pathlib import Path

import pytest
from doubles import BASE, Memory, World, plan

from pytest_imagebuild import Image, Secret, SecretError, StepError
from pytest_imagebuild.engines.credentials import Credentials
from pytest_imagebuild.engines.memory import CommandResult
from pytest_imagebuild.engines.work import Work
from pytest_imagebuild.errors import BaseImageError, EngineError, EngineUnavailableError, ImageBuildError

VALUE = "t0ken-4711-abc"
TOKEN = Secret.from_local_environ(["TOKEN"])
HOST = {"TOKEN": VALUE, "OTHER": "unasked"}


class Lines(Memory):
    """Remembers the output too."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def said(self, layer: str, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def works(world: World) -> list[Work]:
    return [argument for call in world.engine.calls for argument in call.arguments if isinstance(argument, Work)]


def build(world: World, image: Image, **host: str) -> Lines:
    progress = Lines()
    world.builder("run", progress=progress, environment={**HOST, **host}).build(plan(image))
    return progress


def test_the_commands_of_a_step_get_the_values_apart_from_what_is_no_secret(world: World) -> None:
    build(world, BASE.run_commands("make", secrets=[TOKEN], env={"A": "1"}))
    [work] = works(world)
    assert work.secrets == {"TOKEN": VALUE}
    assert "TOKEN" not in work.environment
    assert work.environment["A"] == "1"


def test_other_steps_of_the_chain_get_none(world: World) -> None:
    build(world, BASE.run_commands("a").run_commands("b", secrets=[TOKEN]).run_commands("c"))
    assert [dict(work.secrets) for work in works(world)] == [{}, {"TOKEN": VALUE}, {}]


def test_the_env_of_a_step_wins_over_its_secrets_and_later_secrets_over_earlier(world: World) -> None:
    first, second = Secret.from_dict({"A": "1111", "B": "1111", "C": "1111"}), Secret.from_dict({"B": "2222"})
    build(world, BASE.run_commands("make", secrets=[first, second], env={"C": "env"}))
    [work] = works(world)
    assert (work.secrets, work.environment["C"]) == ({"A": "1111", "B": "2222"}, "env")


def test_a_secret_wins_over_what_every_step_is_given(world: World) -> None:
    build(world, BASE.run_commands("make", secrets=[Secret.from_dict({"UV_NO_CACHE": "0000"})]))
    [work] = works(world)
    assert work.secrets == {"UV_NO_CACHE": "0000"}


@pytest.mark.parametrize("install", ["apt_install", "pip_install", "uv_pip_install"])
def test_an_installer_gets_the_values_when_it_resolves_and_when_it_installs(world: World, install: str) -> None:
    world.offer_uv()
    build(world, getattr(BASE, install)("six", secrets=[TOKEN]))
    assert [dict(work.secrets) for work in works(world)] == [{"TOKEN": VALUE}] * 2


def test_what_a_step_prints_is_shown_without_the_values(world: World) -> None:
    world.shell.failing["make"] = CommandResult(stdout=f"got {VALUE}\n".encode(), stderr=f"e {VALUE!r}\n".encode())
    assert build(world, BASE.run_commands("make", secrets=[TOKEN])).lines == ["e '***'", "got ***"]


def test_a_failed_step_tells_its_output_without_the_values(world: World) -> None:
    world.shell.failing["make"] = CommandResult(exit_code=3, stdout=f"got {VALUE}\n".encode())
    with pytest.raises(StepError) as caught:
        build(world, BASE.run_commands("make", secrets=[TOKEN]))
    assert caught.value.output == "got ***"
    assert "    got ***" in str(caught.value)
    assert VALUE not in "".join(traceback.format_exception(caught.value))


def test_a_failed_resolution_tells_its_output_without_the_values(world: World) -> None:
    world.shell.failing["--report"] = CommandResult(exit_code=1, stderr=f"no {VALUE}\n".encode())
    with pytest.raises(StepError) as caught:
        build(world, BASE.pip_install("six", secrets=[TOKEN]))
    assert caught.value.output == "no ***"


def test_the_frames_of_a_failure_show_no_value(world: World) -> None:
    world.engine.fail["build"] = EngineError(f"lost while it did {VALUE}")
    with pytest.raises(EngineError, match=r"^lost while it did \*\*\*$") as caught:
        build(world, BASE.run_commands("make", secrets=[TOKEN]))
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [frame for frame in frames.stack if "pytest_imagebuild" in frame.filename and frame.locals]
    assert any("maker.py" in frame.filename for frame in ours)
    assert VALUE not in str([frame.locals for frame in ours])


def test_an_error_keeps_its_kind(world: World) -> None:
    world.engine.fail["build"] = EngineUnavailableError("gone")
    with pytest.raises(EngineUnavailableError):
        build(world, BASE.run_commands("make", secrets=[TOKEN]))


def test_the_lockfile_and_the_labels_have_no_value(world: World) -> None:
    build(world, BASE.pip_install("six", secrets=[TOKEN], index_url="https://index.example/simple"))
    assert VALUE not in (world.folder / "imagebuild.lock").read_text()
    assert VALUE not in str(world.labels())
    files = [path for path in world.folder.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if VALUE.encode() in path.read_bytes()]


def test_an_address_with_a_value_in_it_is_locked_by_the_name_of_the_variable(world: World) -> None:
    world.shell.failing["--report"] = CommandResult(
        stdout=json.dumps(
            {
                "install": [
                    {
                        "metadata": {"name": "foo", "version": "1"},
                        "download_info": {"url": f"https://h.example/foo.whl?sig={VALUE}", "archive_info": {}},
                        "is_direct": True,
                    }
                ]
            }
        ).encode()
    )
    build(world, BASE.pip_install("foo @ https://h.example/foo.whl?sig=${TOKEN}", secrets=[TOKEN]))
    [pin] = world.lockfile().layers[0].packages
    assert pin.url == "https://h.example/foo.whl?sig=${TOKEN}"
    _, installing = works(world)
    assert b"foo @ https://h.example/foo.whl?sig=${TOKEN}\n" in [tool.data for tool in installing.tools]


def test_a_login_stays_out_of_the_lockfile_and_is_there_for_the_installation(world: World) -> None:
    world.shell.failing["--report"] = CommandResult(
        stdout=json.dumps(
            {
                "install": [
                    {
                        "metadata": {"name": "foo", "version": "1"},
                        "download_info": {
                            "url": f"https://me:{VALUE}@h.example/foo",
                            "vcs_info": {"vcs": "git", "commit_id": "c0ffee"},
                        },
                        "is_direct": True,
                    }
                ]
            }
        ).encode()
    )
    build(world, BASE.pip_install("git+https://me:$TOKEN@h.example/foo", secrets=[TOKEN]))
    assert [pin.url for pin in world.lockfile().layers[0].packages] == ["git+https://h.example/foo@c0ffee"]
    assert world.lockfile().layers[0].request == ("git+https://h.example/foo",)
    assert b"foo @ git+https://me:${TOKEN}@h.example/foo@c0ffee\n" in [tool.data for tool in works(world)[1].tools]


def test_a_secret_that_is_not_there_is_an_error_at_its_line_when_the_layer_is_made(world: World) -> None:
    with pytest.raises(SecretError) as caught:
        world.builder("run").build(plan(BASE.run_commands("make", secrets=[TOKEN])))
    assert str(caught.value) == (
        f'{TOKEN.where}: Secret.from_local_environ(["TOKEN"]) found no TOKEN in the environment of pytest. '
        "Set what is missing before pytest starts."
    )
    assert TOKEN.where is not None
    assert TOKEN.where.file == __file__


def test_a_warm_run_needs_no_values(world: World) -> None:
    image = BASE.pip_install("six", secrets=[TOKEN]).run_commands("make", secrets=[TOKEN])
    build(world, image)
    builder = world.builder("second")
    builder.build(plan(image))
    assert (builder.tally.built, builder.tally.reused) == (0, 3)


def test_another_value_builds_nothing_anew(world: World) -> None:
    image = BASE.run_commands("make", secrets=[TOKEN])
    build(world, image)
    done = len(works(world))
    build(world, image, TOKEN="another-value")
    assert len(works(world)) == done


# registries ---------------------------------------------------------------------------------------------------------

LOGIN = Secret.from_local_environ(["REGISTRY_USERNAME", "REGISTRY_PASSWORD"])
ACCOUNT = {"REGISTRY_USERNAME": "me", "REGISTRY_PASSWORD": VALUE}


def test_a_registry_gets_the_credentials_when_the_base_is_pinned_and_when_it_is_fetched(world: World) -> None:
    build(world, Image.from_registry("r.example/a:1", LOGIN), **ACCOUNT)
    given = [
        (call.name, argument)
        for call in world.engine.calls
        for argument in call.arguments
        if isinstance(argument, Credentials)
    ]
    credentials = Credentials(username="me", password=VALUE)
    assert given == [("pin_base", credentials), ("import_base", credentials)]


def test_a_base_without_a_secret_gets_no_credentials(world: World) -> None:
    build(world, BASE)
    assert [call.arguments for call in world.engine.calls if call.name == "pin_base"] == [("debian:trixie",)]


@pytest.mark.parametrize("call", ["pin_base", "import_base"])
def test_what_a_registry_says_is_told_without_the_password(world: World, call: str) -> None:
    world.engine.fail[call] = BaseImageError(f"denied for me:{VALUE}")
    with pytest.raises(BaseImageError, match=r"^denied for me:\*\*\*$"):
        build(world, Image.from_registry("r.example/a:1", LOGIN), **ACCOUNT)


def test_keys_of_the_wrong_kind_are_told_at_the_line_of_the_chain_call(world: World) -> None:
    image = Image.from_registry("r.example/a:1", TOKEN)
    with pytest.raises(SecretError) as caught:
        build(world, image)
    assert caught.value.where == image.where
    assert "Found: TOKEN. Needed for secret=: REGISTRY_USERNAME, REGISTRY_PASSWORD; or" in str(caught.value)


def test_a_build_logs_no_value(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    image = Image.from_registry("r.example/a:1", LOGIN).pip_install("six", secrets=[TOKEN]).run_commands("false")
    world.shell.failing["false"] = CommandResult(exit_code=1)
    with pytest.raises(ImageBuildError):
        build(world, image, **ACCOUNT)
    assert VALUE not in caplog.text
