"""Which references Debian's packages can make, what mmdebstrap is told, and what is said when it cannot be done."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pytest_imagebuild.engines import bootstrap as module
from pytest_imagebuild.engines.bootstrap import _Recipe, bootstrap, suite_for, supports
from pytest_imagebuild.engines.mmdebstrap import Mmdebstrap
from pytest_imagebuild.errors import BaseImageError


def command(reference: str, *, as_root: bool = True, architecture: str = "amd64") -> list[str]:
    return _Recipe(reference=reference, architecture=architecture).command(Mmdebstrap(), as_root=as_root)


def option(argv: list[str], name: str) -> list[str]:
    return [argument.partition("=")[2] for argument in argv if argument.startswith(f"--{name}=")]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a keyring and an empty PATH; the folder is where its programs go."""
    programs = tmp_path / "bin"
    programs.mkdir()
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    monkeypatch.setattr(module, "_KEYRING", keyring)
    monkeypatch.setitem(module._ENVIRONMENT, "PATH", str(programs))
    return programs


def program(folder: Path, name: str, script: str = "exit 0") -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n{script}\n")
    path.chmod(0o755)


def run(reference: str, target: Path) -> list[str]:
    lines: list[str] = []
    bootstrap(reference, architecture="amd64", target=target, output=lines.append)
    return lines


@pytest.mark.parametrize(
    ("reference", "suite"),
    [
        ("python:3.9-slim", "bullseye"),
        ("python:3.11-slim-bookworm", "bookworm"),
        ("python:3.11-slim-trixie", "bookworm"),
        ("python:3.13-slim", "trixie"),
        ("python:3.13.5-slim-trixie", "trixie"),
        ("library/python:3.13-slim-trixie", "trixie"),
        ("docker.io/library/python:3.14-slim-trixie", "forky"),
    ],
)
def test_the_python_series_chooses_the_suite_whatever_codename_the_reference_has(reference: str, suite: str) -> None:
    assert supports(reference)
    assert suite_for(reference) == suite


@pytest.mark.parametrize(
    ("reference", "suite"),
    [
        ("debian:trixie", "trixie"),
        ("debian:bookworm-slim", "bookworm"),
        ("debian:13", "trixie"),
        ("debian:12.5-slim", "bookworm"),
        ("debian:stable", "stable"),
        ("debian:latest", "stable"),
        ("docker.io/library/debian:trixie-slim", "trixie"),
    ],
)
def test_a_debian_reference_names_its_suite_by_codename_or_version(reference: str, suite: str) -> None:
    assert supports(reference)
    assert suite_for(reference) == suite


@pytest.mark.parametrize(
    "reference",
    [
        "python",
        "python:3.13",
        "python:3.13-alpine",
        "python:slim",
        "python:2.7-slim",
        "python:3.13-slim-trixie@sha256:" + "0" * 64,
        "ghcr.io/library/python:3.13-slim",
        "someone/python:3.13-slim",
        "debian",
        "debian:trixie-20251103-slim",
        "ubuntu:24.04",
    ],
)
def test_other_references_are_not_supported(reference: str) -> None:
    assert not supports(reference)
    with pytest.raises(BaseImageError, match=r"only python:3\.N-slim"):
        suite_for(reference)


def test_a_series_that_no_suite_has_is_an_error_that_lists_those_that_one_has() -> None:
    assert supports("python:3.10-slim-trixie")
    with pytest.raises(BaseImageError) as caught:
        suite_for("python:3.10-slim-trixie")
    assert str(caught.value) == (
        "python:3.10-slim-trixie cannot be bootstrapped: no Debian suite has Python 3.10. Ask for one of "
        "3.9 (bullseye), 3.11 (bookworm), 3.13 (trixie), 3.14 (forky), "
        "or make a registry that has this image reachable."
    )


def test_an_unknown_release_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(BaseImageError) as caught:
        suite_for("debian:jessie")
    assert str(caught.value) == (
        "debian:jessie cannot be bootstrapped: jessie is not a Debian release known here. Ask for one of "
        "bullseye, bookworm, trixie, forky, stable, or make a registry that has this image reachable."
    )


def test_sources_have_the_suite_its_updates_and_its_security_fixes() -> None:
    recipe = _Recipe(reference="python:3.11-slim-trixie", architecture="amd64")
    assert recipe.sources() == (
        "Types: deb\n"
        "URIs: http://deb.debian.org/debian\n"
        "Suites: bookworm bookworm-updates\n"
        "Components: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        "\n"
        "Types: deb\n"
        "URIs: http://deb.debian.org/debian-security\n"
        "Suites: bookworm-security\n"
        "Components: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )


def test_a_python_image_has_python_and_a_debian_image_has_not() -> None:
    (python,) = option(command("python:3.13-slim-trixie"), "include")
    (debian,) = option(command("debian:trixie"), "include")
    assert python == "ca-certificates,netbase,tzdata,python3,python3-venv"
    assert debian == "ca-certificates,netbase,tzdata"


def test_pip_installs_as_root_because_the_marker_of_pep_668_is_kept_out_for_good() -> None:
    assert "path-exclude=/usr/lib/python3*/EXTERNALLY-MANAGED" in option(command("python:3.13-slim"), "dpkgopt")
    assert option(command("debian:trixie"), "dpkgopt") == []


def test_slim_images_leave_documentation_out_and_keep_the_copyright() -> None:
    options = option(command("debian:trixie-slim"), "dpkgopt")
    assert {"path-exclude=/usr/share/doc/*", "path-exclude=/usr/share/man/*"} < set(options)
    assert options.index("path-exclude=/usr/share/doc/*") < options.index("path-include=/usr/share/doc/*/copyright")


def test_only_an_ordinary_user_needs_a_user_namespace() -> None:
    assert option(command("debian:trixie", as_root=True), "mode") == ["root"]
    assert option(command("debian:trixie", as_root=False), "mode") == ["unshare"]


@pytest.mark.parametrize(
    ("platform", "debian"), [("amd64", "amd64"), ("arm64", "arm64"), ("arm/v7", "armhf"), ("386", "i386")]
)
def test_architectures_are_named_as_in_an_image_index(platform: str, debian: str) -> None:
    assert option(command("debian:trixie", architecture=platform), "architectures") == [debian]


def test_the_file_system_is_written_to_stdout_from_sources_on_stdin() -> None:
    assert command("python:3.13-slim-trixie")[-3:] == ["trixie", "-", "-"]


def test_apt_options_reach_mmdebstrap() -> None:
    recipe = _Recipe(reference="debian:forky", architecture="amd64", apt_options=('Acquire::Retries "3";',))
    assert option(recipe.command(Mmdebstrap(), as_root=True), "aptopt") == ['Acquire::Retries "3";']


def test_the_time_of_the_run_is_fixed() -> None:
    assert module._ENVIRONMENT["SOURCE_DATE_EPOCH"] == "1577836800"


@pytest.mark.parametrize("name", sorted(module._SCRIPTS))
def test_every_script_is_valid_shell(name: str) -> None:
    subprocess.run(["sh", "-n"], input=module._SCRIPTS[name], text=True, check=True)


def test_a_machine_without_mmdebstrap_is_told_how_to_get_it(host: Path, tmp_path: Path) -> None:
    with pytest.raises(BaseImageError) as caught:
        run("python:3.13-slim", tmp_path / "out.tar")
    assert str(caught.value) == (
        "python:3.13-slim was to be bootstrapped from Debian packages, but this machine has no mmdebstrap. "
        "Install it with: apt-get install mmdebstrap"
    )


def test_a_machine_that_has_apt_fetches_it_once(shell: Path, tmp_path: Path) -> None:
    program(shell, "perl")
    program(
        shell, "apt-get", f'echo "$*" >> {tmp_path}/calls; case "$*" in *download*) touch mmdebstrap_1_all.deb;; esac'
    )
    script = "#!/bin/sh\\nprintf fetched; cat > /dev/null\\n"
    place = "$3/usr/bin/mmdebstrap"
    unpack = f"mkdir -p $3/usr/bin; printf '{script}' > {place}; chmod 755 {place}"
    program(shell, "dpkg-deb", unpack)
    for name in ("mkdir", "touch", "chmod"):
        (shell / name).symlink_to(shutil.which(name) or name)
    for _ in range(2):
        lines = run("debian:trixie", tmp_path / "out" / "root.tar")
        assert (tmp_path / "out" / "root.tar").read_bytes().endswith(b"fetched")
    assert lines == ["bootstrapping debian:trixie from Debian trixie"]
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split(" ")[-1] for call in calls] == ["update", "mmdebstrap"]
    assert all(f"Dir::State={tmp_path}/out/" in call for call in calls)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"root.tar", "mmdebstrap"}


def test_what_apt_says_when_it_cannot_fetch_it_is_told(shell: Path, tmp_path: Path) -> None:
    program(shell, "perl")
    program(shell, "dpkg-deb")
    program(shell, "apt-get", "echo 'E: no route to Debian' >&2; exit 100")
    with pytest.raises(BaseImageError) as caught:
        run("debian:trixie", tmp_path / "out" / "root.tar")
    assert str(caught.value) == (
        "debian:trixie was to be bootstrapped from Debian packages, but this machine has no mmdebstrap, and apt could "
        "not fetch it: E: no route to Debian. Install it with: apt-get install mmdebstrap"
    )
    assert [*(tmp_path / "out").iterdir()] == []


def test_a_machine_without_debians_keys_is_told_how_to_get_them(host: Path, tmp_path: Path) -> None:
    program(host, "mmdebstrap")
    (tmp_path / "keyring.gpg").unlink()
    with pytest.raises(BaseImageError, match=r"Install it with: apt-get install debian-archive-keyring$"):
        run("python:3.13-slim", tmp_path / "out.tar")


def test_an_ordinary_user_without_newuidmap_is_told_how_to_get_it(
    host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(host, "mmdebstrap")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BaseImageError, match=r"has no newuidmap\. Install it with: apt-get install uidmap$"):
        run("python:3.13-slim", tmp_path / "out.tar")


@pytest.fixture
def shell(host: Path) -> Path:
    """The same machine, with what the supervising script itself calls."""
    for name in ("bash", "cat", "id"):
        (host / name).symlink_to(shutil.which(name) or name)
    program(host, "newuidmap")
    return host


def test_a_good_run_leaves_the_archive_and_nothing_else_in_the_folder(shell: Path, tmp_path: Path) -> None:
    program(shell, "mmdebstrap", "echo I: working >&2; printf rest; cat > /dev/null")
    lines = run("python:3.11-slim-trixie", tmp_path / "out" / "root.tar")
    assert lines == ["bootstrapping python:3.11-slim-trixie from Debian bookworm", "I: working"]
    written = (tmp_path / "out" / "root.tar").read_bytes()
    assert written[:6] == b"./dev/"
    assert written[512:] == b"rest"
    assert [*(tmp_path / "out").iterdir()] == [tmp_path / "out" / "root.tar"]


def test_a_good_run_replaces_an_older_archive(shell: Path, tmp_path: Path) -> None:
    program(shell, "mmdebstrap", "printf new")
    (tmp_path / "root.tar").write_bytes(b"old")
    run("debian:trixie", tmp_path / "root.tar")
    assert (tmp_path / "root.tar").read_bytes().endswith(b"new")


def test_a_failed_run_leaves_nothing_and_says_how_it_ended(shell: Path, tmp_path: Path) -> None:
    program(shell, "mmdebstrap", "printf half; echo E: no route >&2; exit 25")
    with pytest.raises(BaseImageError) as caught:
        run("python:3.13-slim", tmp_path / "out" / "root.tar")
    assert str(caught.value) == (
        "python:3.13-slim could not be bootstrapped from Debian trixie: mmdebstrap exited with 25. Check that "
        "http://deb.debian.org answers, or make a registry that has this image reachable. The end of its output:\n"
        "  E: no route"
    )
    assert [*(tmp_path / "out").iterdir()] == []


def test_a_run_that_is_given_up_ends_mmdebstrap_before_it_returns(shell: Path, tmp_path: Path) -> None:
    program(
        shell, "mmdebstrap", f"trap 'echo > {tmp_path}/cleaned; exit 1' TERM; echo go >&2; while :; do sleep 0.1; done"
    )

    def give_up(line: str) -> None:
        if line == "go":
            raise TimeoutError

    with pytest.raises(TimeoutError):
        bootstrap("debian:trixie", architecture="amd64", target=tmp_path / "out" / "root.tar", output=give_up)
    assert (tmp_path / "cleaned").exists()
    assert [*(tmp_path / "out").iterdir()] == []


def test_secrets_of_the_host_do_not_reach_mmdebstrap(
    shell: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_TOKEN", "abc")
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:word@example.org/")
    monkeypatch.setenv("http_proxy", "http://proxy.example.org:3128")
    program(shell, "mmdebstrap", "env >&2")
    names = {line.partition("=")[0] for line in run("debian:trixie", tmp_path / "root.tar")}
    assert {"http_proxy", "SOURCE_DATE_EPOCH"} < names
    assert not {"API_TOKEN", "PIP_INDEX_URL"} & names


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(shell: Path) -> None:
    program(shell, "mmdebstrap")
    with pytest.raises(BaseImageError, match=r"^/proc/root.tar cannot be written: .*Name a folder on a local disk"):
        run("debian:trixie", Path("/proc/root.tar"))
