"""What the engine is told to do for a layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from doubles import BASE, BUILDER, NO_NETWORK, plan

from pytest_imagebuild import Image
from pytest_imagebuild.build.installs import CONSTRAINTS, PINS, UNHASHED
from pytest_imagebuild.build.settings import StepNetwork
from pytest_imagebuild.build.work import commands_for_people, layer_work, resolving_work
from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.work import ConfigChange, Work
from pytest_imagebuild.lockfile import Pin

SIX = Pin(name="six", version="1.17.0", hashes=("sha256:0",))


def work(image: Image, *pins: Pin, network: StepNetwork = NO_NETWORK, tools: tuple[FileEntry, ...] = ()) -> Work:
    return layer_work(plan(image).layers[-1], pins, network, tools)


def texts(entries: tuple[FileEntry, ...]) -> Mapping[str, bytes | None]:
    return {entry.path: entry.data for entry in entries}


def test_commands_are_run_as_they_were_written_one_each() -> None:
    assert work(BASE.run_commands("a && b", "c\nd")).commands == ("a && b", "c\nd")


def test_variables_change_the_configuration_and_run_nothing() -> None:
    done = work(BASE.env({"A": "$B", "C": "x y"}))
    assert done.commands == ()
    assert done.config == ConfigChange(environment=(("A", "$B"), ("C", "x y")))


@pytest.mark.parametrize("path", ["/app", "a b", "x; id"])
def test_a_working_directory_is_configured_and_runs_nothing(path: str) -> None:
    done = work(BASE.workdir(path))
    assert done.commands == ()
    assert done.config == ConfigChange(workdir=path)


def test_debian_slim_sets_the_command_of_the_builder_version() -> None:
    assert work(Image.debian_slim("3.13")).config == ConfigChange(command=BUILDER.command)


def test_copied_files_are_files_of_the_layer(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    done = work(BASE.add_local_file(tmp_path / "a", "/opt/a", copy=True))
    assert [entry.path for entry in done.files] == ["/opt/a"]
    assert (done.commands, done.tools, done.config) == ((), (), ConfigChange())


def test_commands_ask_nobody_and_leave_no_cache() -> None:
    environment = work(BASE.run_commands("a")).environment
    assert environment["DEBIAN_FRONTEND"] == "noninteractive"
    assert environment["PIP_NO_CACHE_DIR"] == environment["UV_NO_CACHE"] == "1"


def test_the_variables_of_the_step_win_over_those_of_the_network_and_these_over_ours() -> None:
    network = StepNetwork(environment={"PIP_NO_INPUT": "0", "HTTP_PROXY": "p", "A": "net"}, tools=(), network="host")
    done = work(BASE.run_commands("a", env={"A": "step", "DEBIAN_FRONTEND": "readline"}), network=network)
    assert done.environment["A"] == "step"
    assert done.environment["DEBIAN_FRONTEND"] == "readline"
    assert (done.environment["PIP_NO_INPUT"], done.environment["HTTP_PROXY"]) == ("0", "p")
    assert done.network == "host"


def test_neither_step_variables_nor_network_settings_reach_the_configuration() -> None:
    network = StepNetwork(
        environment={"HTTP_PROXY": "p"}, tools=(FileEntry(path="/ca", mode=0o644, data=b""),), network="host"
    )
    done = work(BASE.run_commands("a", env={"A": "1"}), network=network)
    assert done.config == ConfigChange()
    assert done.files == ()
    assert [entry.path for entry in done.tools] == ["/ca"]


def test_an_install_gets_its_pins_as_tools() -> None:
    done = work(BASE.pip_install("six"), SIX, Pin(name="old", version="1"))
    assert texts(done.tools) == {PINS: b"six==1.17.0 --hash=sha256:0\n", UNHASHED: b"old==1\n"}
    assert done.files == ()


def test_a_file_of_pins_that_would_be_empty_is_left_out() -> None:
    assert list(texts(work(BASE.pip_install("six"), SIX).tools)) == [PINS]
    assert work(BASE.pip_install("six")).tools == ()


def test_a_step_that_is_no_install_gets_no_pins() -> None:
    assert work(BASE.run_commands("a"), SIX).tools == ()


def test_requirement_files_and_uv_are_tools_and_no_files(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("six\n")
    uv = FileEntry(path="/.uv/uv", mode=0o755, data=b"")
    done = work(BASE.uv_pip_install(requirements=[str(tmp_path / "r.txt")]), SIX, tools=(uv,))
    assert [entry.path for entry in done.tools] == ["/.uv/0/r.txt", "/.uv/uv", PINS]
    assert done.files == ()


def test_resolving_runs_one_command_with_the_layers_tools_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("six\n")
    layer = plan(BASE.uv_pip_install(requirements=[str(tmp_path / "r.txt")], env={"A": "1"})).layers[-1]
    assert layer.install is not None
    done = resolving_work(layer, layer.install, (), NO_NETWORK, ())
    assert len(done.commands) == 1
    assert [entry.path for entry in done.tools] == ["/.uv/0/r.txt"]
    assert done.environment["A"] == "1"
    assert (done.files, done.config) == ((), ConfigChange())


def test_what_is_to_be_kept_is_a_constraints_file() -> None:
    layer = plan(BASE.pip_install("six")).layers[-1]
    assert layer.install is not None
    done = resolving_work(layer, layer.install, (SIX,), NO_NETWORK, ())
    assert texts(done.tools) == {CONSTRAINTS: b"six==1.17.0\n"}
    assert f"-c {CONSTRAINTS}" in done.commands[0]


@pytest.mark.parametrize(
    ("image", "index", "command"),
    [
        (BASE.run_commands("a", "b"), 1, "b"),
        (BASE.apt_install("git"), 0, "apt-get install -y git"),
        (BASE.pip_install("six", "attrs"), 0, "python -m pip install attrs six"),
        (BASE.uv_pip_install("six"), 0, "/.uv/uv pip install --python $(command -v python) --compile-bytecode six"),
        (
            BASE.pip_install("six", extra_index_url="https://me:s3cret@host.example/simple"),
            0,
            "python -m pip install six --extra-index-url https://host.example/simple",
        ),
    ],
)
def test_a_command_is_shown_as_the_user_knows_it_and_without_passwords(image: Image, index: int, command: str) -> None:
    assert commands_for_people(plan(image).layers[-1], BUILDER, index) == command
