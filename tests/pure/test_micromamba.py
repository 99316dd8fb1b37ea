"""Conda environments: what the calls say, how a report is read, how exactly its set is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from doubles import BASE, BUILDER, plan

from pytest_imagebuild import DefinitionError, Image
from pytest_imagebuild.build.installs import Tool, advice, tool_of
from pytest_imagebuild.build.work import commands_for_people, layer_work
from pytest_imagebuild.engines.network import CA_BUNDLE, HostNetwork
from pytest_imagebuild.errors import ImageBuildError, LocalFileError
from pytest_imagebuild.image.steps.conda import MicromambaInstall
from pytest_imagebuild.lockfile import LayerRecord, Lockfile, Pin
from pytest_imagebuild.plan.builders import load

A, B = "a" * 64, "b" * 64
CONDA_FORGE = "https://conda.anaconda.org/conda-forge"


def lines(image: Image) -> tuple[str, ...]:
    return image.steps[-1].lines(BUILDER, "3.12")


def tool(image: Image) -> Tool:
    install = plan(image).layers[-1].install
    assert install is not None
    return tool_of(install)


# the call -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("builder", "tag"), [("2026.10", "2.9.0-debian13-slim"), ("2025.06", "2.1.1-debian12-slim")])
def test_micromamba_emits_the_lines_of_the_reference(builder: str, tag: str) -> None:
    assert Image.micromamba("3.13").steps[0].lines(load(builder), "3.12") == (
        f"FROM mambaorg/micromamba:{tag}",
        'SHELL ["/usr/local/bin/_dockerfile_shell.sh"]',
        "ENV MAMBA_DOCKERFILE_ACTIVATE=1",
        "RUN micromamba install -n base -y python=3.13 pip -c conda-forge",
        'CMD ["sleep", "172800"]',
    )


def test_micromamba_without_a_version_takes_the_local_series() -> None:
    assert "RUN micromamba install -n base -y python=3.12 pip -c conda-forge" in lines(Image.micromamba())


def test_the_shell_is_set_below_what_it_runs() -> None:
    titles = [layer.title for layer in plan(Image.micromamba("3.13")).layers]
    assert titles == [
        'micromamba("3.13"): base image mambaorg/micromamba:2.9.0-debian13-slim',
        'micromamba("3.13"): SHELL ["/usr/local/bin/_dockerfile_shell.sh"]',
        'micromamba("3.13"): micromamba install -n base -y python=3.13 pip -c conda-forge',
        'micromamba("3.13"): CMD ["sleep", "172800"]',
    ]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (BASE.micromamba_install("b>=1", ["a"]), ["FROM base", "RUN micromamba install 'b>=1' a --yes"]),
        (
            BASE.micromamba_install("x", channels=["conda-forge", "bio conda"]),
            ["FROM base", "RUN micromamba install x -c conda-forge -c 'bio conda' --yes"],
        ),
        (
            BASE.micromamba_install("x", spec_file="envs/dev.yml", channels=["c"]),
            ["FROM base", "COPY /dev.yml /dev.yml", "RUN micromamba install x -f /dev.yml -n base -c c --yes"],
        ),
    ],
)
def test_micromamba_install_emits_the_lines_of_the_reference(image: Image, expected: list[str]) -> None:
    assert list(lines(image)) == expected


def test_micromamba_install_of_nothing_gives_the_image_itself() -> None:
    assert BASE.micromamba_install() is BASE
    assert BASE.micromamba_install([], channels=["conda-forge"]) is BASE


@pytest.mark.parametrize(
    ("version", "sentence"),
    [
        ("3", "Invalid Python version: '3'. Write a series ('3.15') or a full version ('3.15.1')."),
        (
            "3.14t",
            (
                "Free threaded Python is not supported with Image.micromamba, but the version asked for is '3.14t'. "
                'Name one of them: Image.micromamba("3.15").'
            ),
        ),
        (
            "3.9",
            (
                "Unsupported Python version: '3.9'. When using the '2026.10' Image builder, Image.micromamba supports "
                "the following series: ['3.11', '3.12', '3.13', '3.14', '3.15']. "
                'Name one of them: Image.micromamba("3.15").'
            ),
        ),
    ],
)
def test_a_python_that_is_not_offered_is_refused_at_build_at_the_users_line(version: str, sentence: str) -> None:
    image = Image.micromamba(version)
    with pytest.raises(DefinitionError) as caught:
        plan(image)
    assert str(caught.value) == f"{image.where}: {sentence}"


# The calls are wrong on purpose, so they are written where no type checker looks.
WRONG = {
    "Image.micromamba(3.12)": (
        'micromamba: Python version must be specified as a string, not float. Write python_version="3.12".'
    ),
    "BASE.micromamba_install(1)": "micromamba_install: packages must only contain strings, got 1 (int)",
    "BASE.micromamba_install('a', channels='c')": (
        "micromamba_install: channels must be None or a list of strings, got 'c' (str)"
    ),
    "BASE.micromamba_install(spec_file=1)": "micromamba_install: spec_file must be a string or a path, got 1 (int)",
}


@pytest.mark.parametrize("call", WRONG)
def test_a_wrong_argument_is_refused_at_the_call(call: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        eval(call)
    assert str(caught.value).partition(": ")[2] == WRONG[call]


def test_the_logins_of_channels_are_shown_to_nobody() -> None:
    image = BASE.micromamba_install("x", channels=["https://me:pw@h.example/t/tok3n/c"])
    layer = plan(image).layers[-1]
    assert layer.title == 'micromamba_install("x", channels=["https://h.example/c"])'
    assert commands_for_people(layer, BUILDER, 0) == "micromamba install x -c https://h.example/c --yes"
    assert tool(image).request == ("x", "-c https://h.example/c")


def test_the_definitions_of_a_known_chain_never_change() -> None:
    image = Image.micromamba("3.13").micromamba_install("numpy", channels=["conda-forge"])
    assert [(layer.step[:16], layer.definition[:16]) for layer in plan(image).layers] == [
        ("4ee917c42f1b586b", "752c39462faf16e6"),
        ("d5adbf27aeb083ff", "cfcdff83e90380a0"),
        ("845af51f595552c5", "c82529609a610397"),
        ("74f3dd60ab5c6e5b", "efb389fd14130cd5"),
        ("36ace6930b31d32b", "a1eaadb08759055c"),
    ]


# spec files ---------------------------------------------------------------------------------------------------------


def specs(folder: Path, name: str, text: str) -> tuple[str, ...]:
    path = folder / name
    path.write_text(text)
    install = plan(BASE.micromamba_install(spec_file=str(path))).layers[-1].install
    assert isinstance(install, MicromambaInstall)
    return install.specs


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        (
            "a.yml",
            "name: x  # of a name\nchannels:\n  - c\ndependencies:\n- python=3.12  # why\n  - 'numpy >=2,<3'\n",
            ("python=3.12", "numpy >=2,<3"),
        ),
        ("a.yaml", 'dependencies: [a=1, "b"]\nchannels: [c]\n', ("a=1", "b")),
        ("a.yml", "dependencies:\n  - conda-forge::a\n", ("conda-forge::a",)),
        ("a.txt", "# a list\na=1\n\nb\n", ("a=1", "b")),
        ("a.txt", "# platform: linux-64\n@EXPLICIT\nhttps://h/c/noarch/a-1-0.conda\n", ()),
        ("conda-lock.yml", "version: 1\npackage:\n- name: a\n", ()),
    ],
)
def test_a_spec_file_is_read_for_the_packages_that_it_names(
    name: str, text: str, found: tuple[str, ...], tmp_path: Path
) -> None:
    assert specs(tmp_path, name, text) == found


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "dependencies:\n  - a\n  - pip:\n    - b\n",
            (
                "has a pip: section, and packages of pip cannot be pinned with those of conda. Take it out, and "
                "install them in the next step, with pip_install or uv_pip_install."
            ),
        ),
        ("variables:\n  A: 1\n", "has variables:, which would be part of no layer. Set them with Image.env."),
    ],
)
def test_what_no_layer_can_have_of_a_spec_file_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DefinitionError) as caught:
        specs(tmp_path, "a.yml", text)
    assert str(caught.value).endswith(f": micromamba_install: {tmp_path}/a.yml {sentence}")


def test_a_list_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DefinitionError, match=r"the dependencies of .*/a\.yml cannot be read\. Write each on a line of"
    ):
        specs(tmp_path, "a.yml", "dependencies: &all\n  - a\n")


def test_a_missing_spec_file_is_told_at_build(tmp_path: Path) -> None:
    image = BASE.micromamba_install(spec_file=tmp_path / "none.yml")
    with pytest.raises(LocalFileError) as caught:
        plan(image)
    assert str(caught.value).endswith(f": micromamba_install: spec file {tmp_path}/none.yml does not exist.")


def test_the_content_of_a_spec_file_counts_and_its_place_does_not(tmp_path: Path) -> None:
    for folder, text in (
        ("one", "dependencies:\n- a\n"),
        ("two", "dependencies:\n- a\n"),
        ("three", "dependencies:\n- b\n"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "e.yml").write_text(text)
    one, two, three = (
        plan(BASE.micromamba_install(spec_file=tmp_path / name / "e.yml")).layers[-1]
        for name in ("one", "two", "three")
    )
    assert one.definition == two.definition != three.definition


# pins ---------------------------------------------------------------------------------------------------------------


def report(*, alias: str = "", **actions: list[dict[str, str]]) -> str:
    return f"{alias}\n{json.dumps({'actions': actions, 'success': True})}\n"


def linked(url: str, **more: str) -> dict[str, str]:
    name, version, _ = url.rpartition("/")[2].rsplit("-", 2)
    return {"name": name, "version": version, "subdir": url.split("/")[-2], "url": url, **more}


def test_a_report_is_read_in_the_order_of_linking_with_the_best_hash() -> None:
    printed = report(
        LINK=[
            linked(f"{CONDA_FORGE}/linux-64/zlib-1.3-h1_0.conda", sha256=A, md5="c" * 32),
            linked("https://h.example/c/noarch/a-b-2-py_0.tar.bz2", md5="d" * 32),
        ],
    )
    assert tool(BASE.micromamba_install("x")).parse(printed) == (
        Pin(
            name="zlib",
            version="1.3",
            architecture="linux-64",
            url=f"{CONDA_FORGE}/linux-64/zlib-1.3-h1_0.conda",
            hashes=(f"sha256:{A}",),
        ),
        Pin(
            name="a-b",
            version="2",
            architecture="noarch",
            url="https://h.example/c/noarch/a-b-2-py_0.tar.bz2",
            hashes=(f"md5:{'d' * 32}",),
        ),
    )


def test_an_address_has_neither_a_login_nor_the_mirror_of_this_machine() -> None:
    printed = report(
        alias="https://me:pw@mirror.corp/conda/",
        LINK=[
            linked("https://me:pw@mirror.corp/conda/conda-forge/noarch/a-1-0.conda"),
            linked("https://h.example/t/tok3n/c/noarch/b-1-0.conda"),
        ],
    )
    urls = [pin.url for pin in tool(BASE.micromamba_install("x")).parse(printed)]
    assert urls == [f"{CONDA_FORGE}/noarch/a-1-0.conda", "https://h.example/c/noarch/b-1-0.conda"]


def test_what_is_taken_away_without_another_in_its_place_is_pinned_as_gone() -> None:
    url = "https://h.example/c/noarch/a-2-0.conda"
    printed = report(LINK=[linked(url)], UNLINK=[{"name": "a"}, {"name": "b"}])
    pins = tool(BASE.micromamba_install("x")).parse(printed)
    assert [(pin.name, pin.version, pin.url) for pin in pins] == [("b", "", ""), ("a", "2", url)]


def test_nothing_to_install_gives_no_pins_and_a_command_that_does_nothing() -> None:
    asked = tool(BASE.micromamba_install("x"))
    assert asked.parse('\n{"message": "All requested packages already installed", "success": true}') == ()
    assert asked.script(()) == ":"


def test_a_report_that_is_none_is_an_error() -> None:
    with pytest.raises(ImageBuildError, match="micromamba did not say what it would install: 'oh no'"):
        tool(BASE.micromamba_install("x")).parse("\noh no")


def test_pins_stay_in_the_order_of_linking() -> None:
    pins = (Pin(name="z", version="1", url="https://h/z"), Pin(name="a", version="", url=""))
    record = LayerRecord(id="1", base="b", platform="linux/amd64", tool="micromamba", request=("z",), packages=pins)
    lockfile = Lockfile(layers=(record,))
    assert Lockfile.loads(lockfile.dumps(), "imagebuild.lock") == lockfile


# scripts ------------------------------------------------------------------------------------------------------------

MICROMAMBA = """\
echo "micromamba $*" >> "$LOG"
[ -w "$(dirname "$CONDA_PKGS_DIRS")" ] || exit 9
case "$1 $*" in
  remove*) printf '==> now <==\\n# cmd: remove\\n-c::gone\\n# remove specs: ["x"]\\n' >> "$RECORDS/history" ;;
  *--file*)
    for last; do :; done
    cat "$last" > "$LOG.explicit"
    printf '==> now <==\\n# cmd: explicit\\n+c::new\\n# update specs: ["x"]\\n' >> "$RECORDS/history"
    printf '{\\n    "name": "new",\\n    "url": "%s"\\n}\\n' "$(tail -n 1 "$last")" > "$RECORDS/new-1-0.json" ;;
  *) printf '%s' "$ANSWER"; exit "${CODE:-0}" ;;
esac
"""


class Box:
    """A folder as the root environment, with a micromamba that notes what it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records = folder / "conda" / "conda-meta"
        (folder / "bin").mkdir()
        (folder / "tmp").mkdir()
        program = folder / "bin" / "micromamba"
        program.write_text(f"#!/bin/sh\n{MICROMAMBA}")
        program.chmod(0o755)

    def run(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        variables = {
            "PATH": f"{self.folder / 'bin'}:{os.defpath}",
            "MAMBA_ROOT_PREFIX": str(self.folder / "conda"),
            "TMPDIR": str(self.folder / "tmp"),
            "LOG": str(self.folder / "log"),
            "RECORDS": str(self.records),
            **environment,
        }
        command = ["/bin/bash", "-o", "pipefail", "-c", script]
        return subprocess.run(command, capture_output=True, text=True, env=variables, check=False)

    @property
    def log(self) -> list[str]:
        return (self.folder / "log").read_text().splitlines()

    @property
    def explicit(self) -> list[str]:
        return (self.folder / "log.explicit").read_text().splitlines()


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


PINS = (
    Pin(name="old", version=""),
    Pin(name="dep", version="1", url=f"{CONDA_FORGE}/linux-64/dep-1-h_0.conda", hashes=(f"sha256:{A}",)),
    Pin(name="new", version="1", url="https://h.example/c/noarch/new-1-0.conda", hashes=("md5:" + "c" * 32,)),
)


def test_exactly_the_pins_are_installed_in_their_order_with_their_hashes(box: Box) -> None:
    ran = box.run(tool(BASE.micromamba_install("new")).script(PINS))
    assert ran.returncode == 0, ran.stderr
    assert box.explicit == [
        "@EXPLICIT",
        f"{CONDA_FORGE}/linux-64/dep-1-h_0.conda#sha256:{A}",
        f"https://h.example/c/noarch/new-1-0.conda#{'c' * 32}",
    ]
    (told,) = box.log
    assert told.startswith("micromamba install --yes --file ")
    assert [*(box.folder / "tmp").iterdir()] == []


def test_the_root_environment_is_named_where_the_reference_names_it(box: Box, tmp_path: Path) -> None:
    (tmp_path / "e.yml").write_text("dependencies:\n- new\n")
    assert box.run(tool(BASE.micromamba_install(spec_file=tmp_path / "e.yml")).script(PINS)).returncode == 0
    assert box.log[0].startswith("micromamba install -n base --yes --file ")


def test_what_the_environment_has_under_the_same_names_is_taken_away_first(box: Box) -> None:
    box.records.mkdir(parents=True)
    for name in ("old", "new", "other"):
        (box.records / f"{name}-0-0.json").write_text(json.dumps({"name": name, "depends": ["dep"]}, indent=4))
    assert box.run(tool(BASE.micromamba_install("new")).script(PINS)).returncode == 0
    assert box.log[0] == "micromamba remove --yes --force old new"
    assert box.log[1].startswith("micromamba install ")


def test_packages_that_are_only_taken_away_need_no_file(box: Box) -> None:
    box.records.mkdir(parents=True)
    (box.records / "old-0-0.json").write_text('{\n  "name": "old"\n}')
    assert box.run(tool(BASE.micromamba_install("new")).script(PINS[:1])).returncode == 0
    assert box.log == ["micromamba remove --yes --force old"]


def test_the_history_says_what_was_asked_for(box: Box, tmp_path: Path) -> None:
    box.records.mkdir(parents=True)
    (box.records / "history").write_text('==> before <==\n# cmd: first\n# update specs: ["a"]\n')
    (tmp_path / "e.yml").write_text("dependencies:\n- more=1\n")
    image = BASE.micromamba_install("new>=1", spec_file=tmp_path / "e.yml", channels=["https://me:pw@h.example/c"])
    assert box.run(tool(image).script(PINS)).returncode == 0
    assert (box.records / "history").read_text().splitlines() == [
        "==> before <==",
        "# cmd: first",
        '# update specs: ["a"]',
        "==> now <==",
        "+c::new",
        "# cmd: micromamba install 'new>=1' -f /e.yml -n base -c https://h.example/c --yes",
        '# update specs: ["new>=1", "more=1"]',
    ]


def test_dependencies_that_an_old_micromamba_does_not_note_are_noted(box: Box) -> None:
    (box.folder / "conda" / "bin").mkdir(parents=True)
    (box.folder / "conda" / "bin" / "python").symlink_to(sys.executable)
    script = tool(BASE.micromamba_install("new")).script(PINS)
    unpacks = (
        'mkdir -p "$CONDA_PKGS_DIRS/new-1-0/info"; '
        """echo '{"depends": ["dep"], "constrains": []}' > "$CONDA_PKGS_DIRS/new-1-0/info/index.json"; """
        """echo '{"name": "new", "depends": [], "constrains": []}' > "$RECORDS/new-1-0.json"\n"""
    )
    program = box.folder / "bin" / "micromamba"
    program.write_text(f"#!/bin/sh\n{unpacks}")
    ran = box.run(script)
    assert ran.returncode == 0, ran.stderr
    record = json.loads((box.records / "new-1-0.json").read_text())
    assert record == {"name": "new", "depends": ["dep"], "constrains": []}


def test_packages_come_from_the_mirror_of_the_host(box: Box) -> None:
    script = tool(BASE.micromamba_install("new")).script(PINS)
    assert box.run(script, MAMBA_CHANNEL_ALIAS="https://mirror.corp/conda/").returncode == 0
    assert box.explicit[1] == f"https://mirror.corp/conda/conda-forge/linux-64/dep-1-h_0.conda#sha256:{A}"
    assert box.explicit[2].startswith("https://h.example/c/noarch/new")


def test_the_records_tell_neither_the_mirror_nor_the_cache(box: Box) -> None:
    program = box.folder / "bin" / "micromamba"
    told = (
        '{"url": "https://mirror.corp/t/tok3n/conda-forge/noarch/new-1-0.conda", "other": "https://mirror-corp/x", '
        '"link": "\'"$CONDA_PKGS_DIRS"\'/https/mirror.corp/noarch/new-1-0", '
        '"cache": "\'"$CONDA_PKGS_DIRS"\'/new-1-0"}'
    )
    program.write_text(f"#!/bin/sh\nsleep 0.01\necho '{told}' > \"$RECORDS/new-1-0.json\"\n")
    script = tool(BASE.micromamba_install("new")).script(PINS)
    ran = box.run(script, MAMBA_CHANNEL_ALIAS="https://me:pw@mirror.corp/t/tok3n/")
    assert ran.returncode == 0, ran.stderr
    assert json.loads((box.records / "new-1-0.json").read_text()) == {
        "url": f"{CONDA_FORGE}/noarch/new-1-0.conda",
        "other": "https://mirror-corp/x",
        "link": f"{box.folder}/conda/pkgs/new-1-0",
        "cache": f"{box.folder}/conda/pkgs/new-1-0",
    }


@pytest.mark.parametrize("channel", ["https://me:pw@h.example/c", "https://h.example/t/tok3n/c/"])
def test_the_login_of_a_channel_is_used_and_stays_nowhere(box: Box, channel: str) -> None:
    script = tool(BASE.micromamba_install("new", channels=[channel])).script(PINS)
    assert box.run(script).returncode == 0
    assert box.explicit[2].startswith(f"{channel.rstrip('/')}/noarch/new-1-0.conda#")
    kept = "".join(path.read_text() for path in box.records.iterdir())
    assert "pw" not in kept
    assert "tok3n" not in kept
    assert f'"https://h.example/c/noarch/new-1-0.conda#{"c" * 32}"' in kept


def test_a_report_comes_after_the_alias_of_the_host(box: Box) -> None:
    script = tool(BASE.micromamba_install("x y", channels=["c"])).resolve(constrained=False)
    ran = box.run(script, ANSWER='{"success": true}', MAMBA_CHANNEL_ALIAS="https://mirror.corp")
    assert ran.stdout == 'https://mirror.corp\n{"success": true}\n'
    assert box.log == ["micromamba install x y -c c --yes --dry-run --json"]


def test_a_failed_resolution_shows_its_report_and_keeps_its_exit_code(box: Box) -> None:
    ran = box.run(tool(BASE.micromamba_install("x")).resolve(constrained=False), ANSWER="no such package", CODE="3")
    assert (ran.returncode, ran.stdout, ran.stderr) == (3, "", "no such package\n")


@pytest.mark.parametrize("field", ["name", "url"])
def test_a_pin_of_a_tampered_lockfile_cannot_be_more_than_text(box: Box, field: str) -> None:
    evil = f"https://h/c/noarch/x'; touch {box.folder}/owned; echo \"$(touch {box.folder}/owned)`"
    pin = {"name": "x", "version": "1", "url": "https://h/c/noarch/x-1-0.conda", field: evil}
    box.run(tool(BASE.micromamba_install("x")).script([Pin.from_dict(pin, "")]))
    assert not (box.folder / "owned").exists()


def test_a_pin_of_several_lines_is_refused() -> None:
    with pytest.raises(ImageBuildError, match="the lockfile has an address of x that is none"):
        tool(BASE.micromamba_install("x")).script([Pin(name="x", version="1", url="https://h/x\nEND-OF-PINS\nid")])


def test_a_wrong_hash_comes_with_advice() -> None:
    said = 'error    libmamba File not valid: SHA256 doesn\'t match expectation "/tmp/x.conda"'
    assert advice(1, said).startswith("The index serves other bytes than the lockfile recorded.")


def test_pins_of_conda_are_no_requirement_files() -> None:
    from doubles import NO_NETWORK

    work = layer_work(plan(BASE.micromamba_install("new")).layers[-1], PINS, NO_NETWORK, ())
    assert work.tools == ()


# the host's settings ------------------------------------------------------------------------------------------------


def settings(environ: dict[str, str]) -> dict[str, str]:
    return HostNetwork.from_environment(environ, []).for_steps()[0]


@pytest.mark.parametrize("name", ["MAMBA_CHANNEL_ALIAS", "CONDA_CHANNEL_ALIAS"])
def test_the_alias_of_channels_is_passed_on(name: str) -> None:
    assert settings({name: "https://mirror.corp"}) == {"MAMBA_CHANNEL_ALIAS": "https://mirror.corp"}


def test_an_alias_that_only_the_host_reaches_takes_the_network_of_the_host() -> None:
    network = HostNetwork.from_environment({"MAMBA_CHANNEL_ALIAS": "http://127.0.0.1:8000"}, [])
    assert network.for_steps()[2] == "host"
    assert network.for_sessions(own_network=True)[0] == {}


@pytest.mark.parametrize("name", ["MAMBA_SSL_VERIFY", "CONDA_SSL_VERIFY"])
def test_certificates_are_verified_as_the_host_does(name: str, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("-----BEGIN CERTIFICATE-----\n")
    assert settings({name: "False"}) == {"MAMBA_SSL_VERIFY": "false"}
    assert settings({name: "true"}) == {}
    assert settings({name: str(bundle)})["MAMBA_SSL_VERIFY"] == CA_BUNDLE
