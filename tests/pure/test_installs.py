"""Installers: what they are asked, how their answers are read, and what is run to install exactly that."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest
from doubles import BASE, plan

from pytest_imagebuild import Image
from pytest_imagebuild.build.installs import (
    CONSTRAINTS,
    PINS,
    UNHASHED,
    UV,
    Tool,
    constraints_text,
    requirement_files,
    tool_of,
)
from pytest_imagebuild.build.installs.tool import advice
from pytest_imagebuild.errors import ImageBuildError
from pytest_imagebuild.image.steps.poetry import PoetryInstall
from pytest_imagebuild.lockfile import Pin

EVIL = "six'; touch /tmp/owned; echo \"$(id)`id`"
A, B = "a" * 64, "b" * 64


def tool(image: Image) -> Tool:
    install = plan(image).layers[-1].install
    assert install is not None
    return tool_of(install)


def shell(script: str, folder: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """Run a script with nothing on PATH but `programs`, given as shell scripts, and sed, cat and printf."""
    binaries = folder / "bin"
    binaries.mkdir()
    for name, text in programs.items():
        path = binaries / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{text}")
        path.chmod(0o755)
    environment = {"PATH": f"{binaries}:{os.defpath}", "LC_ALL": "C"}
    return subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, env=environment, check=False)


# apt ----------------------------------------------------------------------------------------------------------------

APT_PLAN = """\
NOTE: This is only a simulation!
      apt needs root privileges for real execution.
Reading package lists...
Building dependency tree...
The following additional packages will be installed:
  git-man libcurl3t64-gnutls
Suggested packages:
  git-doc
Inst libc6 [2.41-12] (2.41-12+deb13u1 Debian:13.2/stable [amd64])
Conf libc6 (2.41-12+deb13u1 Debian:13.2/stable [amd64])
Inst libcurl3t64-gnutls (8.14.1-2+deb13u2 Debian:13.2/stable, Debian-Security:13/stable-security [amd64]) []
Inst git-man (1:2.47.3-0+deb13u1 Debian:13.2/stable [all])
Inst libz1:i386 (1:1.3 Debian:13.2/stable [i386])
Conf git-man (1:2.47.3-0+deb13u1 Debian:13.2/stable [all])
"""
APT_SHOW = f"""\
Package: git
Version: 1:2.47.3-0+deb13u1
Installed-Size: 47,123 kB
Maintainer: Jonathan Nieder <jrnieder@gmail.com>
Architecture: amd64
Depends: libc6 (>= 2.38), git-man (>> 1:2.47.3)
Description-en: fast, scalable, distributed revision control system
 Git is popular version control system designed to handle very large
 projects. The line below is no field:
 Version: 0
 .
 Package: not-one
Filename: pool/main/g/git/git_2.47.3-0+deb13u1_amd64.deb
Size: 8862000
MD5sum: 0123456789abcdef0123456789abcdef
SHA256: {A}

Package: git-man
Architecture: all
Version: 1:2.47.3-0+deb13u1
SHA256: {B}

Package: git-man
Architecture: all
Version: 1:2.47.3-0+deb13u1
SHA256: {B}

"""
APT_PINS = (
    Pin(name="git", version="1:2.47.3-0+deb13u1", architecture="amd64", hashes=(f"sha256:{A}",)),
    Pin(name="git-man", version="1:2.47.3-0+deb13u1", architecture="all", hashes=(f"sha256:{B}",)),
)


def test_apt_show_is_read_once_per_package_and_descriptions_are_no_fields() -> None:
    assert tool(BASE.apt_install("git")).parse(APT_SHOW) == APT_PINS


def test_apt_with_nothing_to_install_has_no_pins() -> None:
    assert tool(BASE.apt_install("git")).parse("") == ()


def test_apt_is_asked_for_exactly_the_versions_that_it_would_install(tmp_path: Path) -> None:
    (tmp_path / "plan").write_text(APT_PLAN)
    done = shell(
        tool(BASE.apt_install("git")).resolve(constrained=False),
        tmp_path,
        apt_get=f'[ "$1" = update ] && echo noise || cat {tmp_path}/plan',
        apt_cache="printf '%s\\n' \"$@\"",
    )
    assert done.returncode == 0
    assert done.stdout.split() == [
        "show",
        "--no-all-versions",
        "libc6=2.41-12+deb13u1",
        "libcurl3t64-gnutls=8.14.1-2+deb13u2",
        "git-man=1:2.47.3-0+deb13u1",
        "libz1:i386=1:1.3",
    ]
    assert "noise" in done.stderr


def test_apt_that_would_install_nothing_shows_nothing(tmp_path: Path) -> None:
    script = tool(BASE.apt_install("git")).resolve(constrained=False)
    done = shell(script, tmp_path, apt_get="echo 'git is already the newest version'", apt_cache="echo shown")
    assert (done.returncode, done.stdout.count("shown")) == (0, 0)


@pytest.mark.parametrize("failing", ["update", "install"])
def test_apt_that_fails_gives_its_exit_code(tmp_path: Path, failing: str) -> None:
    script = tool(BASE.apt_install("nope")).resolve(constrained=False)
    done = shell(
        script,
        tmp_path,
        apt_get=f'[ "$1" = {failing} ] || exit 0; echo "E: Unable to locate package nope" >&2; exit 100',
    )
    assert done.returncode == 100
    assert "E: Unable to locate package nope" in done.stderr


def test_apt_installs_exact_versions_and_marks_what_nobody_asked_for(tmp_path: Path) -> None:
    done = shell(
        tool(BASE.apt_install("git")).script(APT_PINS),
        tmp_path,
        apt_get='echo "apt-get $*"',
        apt_cache=f"cat <<'END'\n{APT_SHOW}END\n",
        apt_mark='echo "apt-mark $*" >&2',
    )
    exact = "git:amd64=1:2.47.3-0+deb13u1 git-man=1:2.47.3-0+deb13u1"
    assert done.stdout.splitlines() == [
        "apt-get update -o APT::Update::Error-Mode=any -o Acquire::Retries=3",
        f"apt-get install -y --no-install-recommends --allow-downgrades {exact}",
    ]
    assert done.stderr.splitlines() == ["apt-mark auto git-man"]
    assert done.returncode == 0


def test_apt_does_not_mark_what_was_asked_for_by_version_or_architecture() -> None:
    pins = (Pin(name="git", version="1", architecture="amd64"), Pin(name="libz1", version="1", architecture="i386"))
    assert "apt-mark" not in tool(BASE.apt_install("git=1", "libz1:i386")).script(pins)


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        ("exit 0", 91),
        (f"cat <<'END'\n{APT_SHOW.replace('1:2.47.3-0+deb13u1', '1:2.47.3-0+deb13u2')}END\n", 91),
        (f"cat <<'END'\n{APT_SHOW.replace(B, 'c' * 64)}END\n", 92),
    ],
    ids=["unknown", "version gone", "bytes changed"],
)
def test_apt_installs_nothing_if_the_index_has_not_what_was_locked(tmp_path: Path, shown: str, code: int) -> None:
    script = tool(BASE.apt_install("git")).script(APT_PINS)
    done = shell(script, tmp_path, apt_get='echo "$1"', apt_cache=shown)
    assert done.returncode == code
    assert "install" not in done.stdout.split()


def test_apt_with_no_pins_only_updates_its_index() -> None:
    assert tool(BASE.apt_install("git")).script(()).startswith("apt-get update ")


def test_a_debian_package_name_cannot_be_more_than_an_argument(tmp_path: Path) -> None:
    script = tool(BASE.apt_install(EVIL)).resolve(constrained=False)
    done = shell(script, tmp_path, apt_get="printf '%s\\n' \"$@\" >&2", apt_cache="")
    assert done.stderr.splitlines()[-3:] == ["install", "-s", EVIL]
    assert not Path("/tmp/owned").exists()


@pytest.mark.parametrize("evil", ["$(touch {0})", "`touch {0}`", "x; touch {0}; y", "x' ; touch {0} ; 'y"])
def test_a_pin_of_a_tampered_lockfile_cannot_be_more_than_an_argument(tmp_path: Path, evil: str) -> None:
    touched = tmp_path / "owned"
    evil = evil.format(touched)
    pins = (Pin(name=evil, version=evil, architecture="all", hashes=(f"sha256:{evil}",)),)
    shell(tool(BASE.apt_install("git")).script(pins), tmp_path, apt_get="", apt_cache=f"echo 'SHA256: {A}'")
    assert not touched.exists()


# pip ----------------------------------------------------------------------------------------------------------------


def pip_report(*items: dict[str, object]) -> str:
    return json.dumps({"version": "1", "pip_version": "25.3", "install": list(items), "environment": {}})


def pip_item(name: str, version: str, download: dict[str, object], *, direct: bool = False) -> dict[str, object]:
    return {
        "download_info": download,
        "is_direct": direct,
        "is_yanked": False,
        "requested": True,
        "metadata": {"metadata_version": "2.4", "name": name, "version": version, "requires_dist": ["x"]},
    }


def wheel(url: str = "https://files.example/six-1.17.0-py2.py3-none-any.whl", **more: object) -> dict[str, object]:
    return {"url": url, "archive_info": {"hash": f"sha256={A}", "hashes": {"sha256": A, "md5": "0"}}, **more}


def test_pip_reports_are_read_with_normalized_names_and_sha256_alone() -> None:
    printed = pip_report(
        pip_item("six", "1.17.0", wheel()), pip_item("Typing.Extensions_X", "4.1", wheel("https://files.example/t.whl"))
    )
    assert tool(BASE.pip_install("six")).parse(printed) == (
        Pin(name="six", version="1.17.0", hashes=(f"sha256:{A}",)),
        Pin(name="typing-extensions-x", version="4.1", hashes=(f"sha256:{A}",)),
    )


@pytest.mark.parametrize(
    ("download", "url", "hashed"),
    [
        (wheel("https://host.example/foo.whl"), "https://host.example/foo.whl", True),
        (wheel("https://me:s3cret@host.example/foo.whl"), "https://host.example/foo.whl", True),
        (wheel("https://t0ken@host.example:8080/foo.whl"), "https://host.example:8080/foo.whl", True),
        (wheel("https://${USER}:${TOKEN}@host.example/foo.whl"), "https://${USER}:${TOKEN}@host.example/foo.whl", True),
        (wheel("file:///srv/foo.whl"), "file:///srv/foo.whl", True),
        (
            wheel("https://host.example/foo.tar.gz", subdirectory="python"),
            "https://host.example/foo.tar.gz#subdirectory=python",
            True,
        ),
        (
            {
                "url": "https://me:s3cret@host.example/foo.git",
                "vcs_info": {"vcs": "git", "commit_id": "c0ffee", "requested_revision": "main"},
            },
            "git+https://host.example/foo.git@c0ffee",
            False,
        ),
        (
            {
                "url": "ssh://git@host.example/foo.git",
                "vcs_info": {"vcs": "git", "commit_id": "c0ffee"},
                "subdirectory": "python",
            },
            "git+ssh://git@host.example/foo.git@c0ffee#subdirectory=python",
            False,
        ),
        ({"url": "file:///srv/foo", "dir_info": {}}, "file:///srv/foo", False),
    ],
)
def test_pip_pins_a_direct_reference_by_its_address_without_credentials(
    download: dict[str, object], url: str, hashed: bool
) -> None:
    [pin] = tool(BASE.pip_install("foo")).parse(pip_report(pip_item("foo", "1.0", download, direct=True)))
    assert pin == Pin(name="foo", version="1.0", url=url, hashes=(f"sha256:{A}",) if hashed else ())


def test_the_hash_of_an_old_pip_is_read_too() -> None:
    download: dict[str, object] = {"url": "https://files.example/six.whl", "archive_info": {"hash": f"sha256={A}"}}
    [pin] = tool(BASE.pip_install("six")).parse(pip_report(pip_item("six", "1.17.0", download)))
    assert pin.hashes == (f"sha256:{A}",)


def test_a_wheel_of_the_wheel_cache_without_hashes_has_none() -> None:
    download: dict[str, object] = {"url": "https://files.example/six.whl", "archive_info": {}}
    [pin] = tool(BASE.pip_install("six")).parse(pip_report(pip_item("six", "1.17.0", download)))
    assert pin.hashes == ()


def test_pip_with_nothing_to_install_has_no_pins() -> None:
    assert tool(BASE.pip_install("six")).parse(pip_report()) == ()
    assert tool(BASE.pip_install("six")).script(()) == ":"


def test_pip_is_asked_with_the_flags_of_the_call_and_prints_nothing_but_its_report() -> None:
    image = BASE.pip_install(
        "six",
        "attrs>=25",
        find_links="/wheels and more",
        index_url="https://a.example/simple",
        extra_index_url="https://b.example/simple",
        pre=True,
        extra_options="--no-binary :all:",
    )
    flags = (
        "python -m pip install --find-links '/wheels and more' --index-url https://a.example/simple "
        "--extra-index-url https://b.example/simple --pre --no-binary :all:"
    )
    assert asked(tool(image).resolve(constrained=False)) == (
        f"{flags} --quiet --dry-run --report - 'attrs>=25' six".split()
    )
    assert f" -c {CONSTRAINTS} " in tool(image).resolve(constrained=True)
    assert asked(tool(image).script([Pin(name="six", version="1", hashes=("sha256:0",))])) == (
        f"{flags} --no-deps --require-hashes -r {PINS} || exit".split()
    )


def asked(script: str) -> list[str]:
    """Return the words of the command that a script for pip runs, whose log tells more when that fails."""
    return script.partition("\n(\n")[2].partition("\n) || {\n")[0].split()


@pytest.mark.parametrize(
    ("logged", "shown"),
    [
        ("2026-01-01T00:00:00,000   Could not fetch URL http://i/demo/: 503 - skipping", True),
        ("2026-01-01T00:00:00,000 Created temporary directory: /tmp/x", False),
    ],
)
def test_what_pip_tells_its_log_of_an_index_is_told_when_it_fails(tmp_path: Path, logged: str, shown: bool) -> None:
    script = tool(BASE.pip_install("demo")).resolve(constrained=False)
    script = script.replace("/dev/shm/imagebuild-pip.log", f"{tmp_path}/log")
    done = shell(script, tmp_path, python=f'echo "{logged}" > "$PIP_LOG"; exit 7')
    assert done.returncode == 7
    assert ("Could not fetch URL http://i/demo/: 503 - skipping" in done.stderr) == shown
    advised = advice(1, f"{done.stderr}No matching distribution found for demo")
    assert advised.startswith("The package index did not answer" if shown else "A locked version is no longer")


@pytest.mark.parametrize("constrained", [True, False])
def test_a_python_package_name_cannot_be_more_than_an_argument(tmp_path: Path, constrained: bool) -> None:
    script = tool(BASE.pip_install(EVIL)).resolve(constrained=constrained)
    done = shell(script, tmp_path, python="printf '%s\\n' \"$@\"")
    assert done.stdout.splitlines()[-1] == EVIL
    assert not Path("/tmp/owned").exists()


def test_the_tools_of_debian_slim_are_upgraded_with_the_pip_on_the_path() -> None:
    install = plan(Image.debian_slim("3.13")).layers[2].install
    assert install is not None
    script = tool_of(install).resolve(constrained=False)
    assert asked(script) == [
        "pip",
        "install",
        "--upgrade",
        "--quiet",
        "--dry-run",
        "--report",
        "-",
        "pip",
        "wheel",
        "uv",
    ]


# uv -----------------------------------------------------------------------------------------------------------------

UV_PLAN = """\
Using Python 3.13.5 environment at: /usr/local
Resolved 6 packages in 12ms
Would download 2 packages
Would uninstall 1 package
Would install 4 packages
 - attrs==25.3.0
 + attrs==25.4.0
 ~ six==1.17.0
 + foo==0.1.0 (from git+https://host.example/foo@c0ffee)
 + bar==2.0 (from https://host.example/bar-2.0-py3-none-any.whl)
"""
UV_COMPILED = f"""\
attrs==25.4.0 \\
    --hash=sha256:{B} \\
    --hash=sha256:{A}
bar @ https://me:s3cret@host.example/bar-2.0-py3-none-any.whl \\
    --hash=sha256:{A}
foo @ git+https://t0ken@host.example/foo@c0ffee
ruamel.yaml_x==1.0 ; python_version >= '3.9' \\
    --hash=sha256:{A}
# a comment
"""


def test_what_uv_compiled_is_read_with_all_hashes_and_without_credentials() -> None:
    assert tool(BASE.uv_pip_install("attrs")).parse(UV_COMPILED) == (
        Pin(name="attrs", version="25.4.0", hashes=(f"sha256:{A}", f"sha256:{B}")),
        Pin(name="bar", version="", url="https://host.example/bar-2.0-py3-none-any.whl", hashes=(f"sha256:{A}",)),
        Pin(name="foo", version="", url="git+https://host.example/foo@c0ffee"),
        Pin(name="ruamel-yaml-x", version="1.0", hashes=(f"sha256:{A}",)),
    )


UV_DOUBLE = """\
case "$2" in
  install) cat "{folder}/plan" >&2; exit {code};;
  compile) cat; echo "$*" >&2;;
esac
"""


def uv_shell(script: str, folder: Path, *, code: int = 0) -> subprocess.CompletedProcess[str]:
    own = script.replace(UV, str(folder / "bin" / "uv"))
    return shell(own, folder, uv=UV_DOUBLE.format(folder=folder, code=code), python="")


def test_uv_is_asked_for_the_hashes_of_exactly_what_it_would_install(tmp_path: Path) -> None:
    (tmp_path / "plan").write_text(UV_PLAN)
    done = uv_shell(tool(BASE.uv_pip_install("attrs", pre=True)).resolve(constrained=False), tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "attrs==25.4.0",
        "six==1.17.0",
        "foo @ git+https://host.example/foo@c0ffee",
        "bar @ https://host.example/bar-2.0-py3-none-any.whl",
    ]
    assert "--no-deps --generate-hashes" in done.stderr


UV_DIRECT = """\
 + foo @ git+https://me:****@host.example/o/foo.git@c0ffee
 + bar @ https://****@host.example/bar-2.0-py3-none-any.whl
 + baz @ https://host.example/baz-2.0-py3-none-any.whl
"""


def test_uv_is_asked_with_the_logins_that_it_shows_as_stars(tmp_path: Path) -> None:
    (tmp_path / "plan").write_text(UV_DIRECT)
    asked = (
        "foo @ git+https://me:${TOKEN}@host.example/o/foo.git@main",
        "bar @ https://$A&B@host.example/bar-2.0-py3-none-any.whl",
    )
    image = BASE.uv_pip_install(*asked, "baz @ https://host.example/baz-2.0-py3-none-any.whl")
    done = uv_shell(tool(image).resolve(constrained=False, asked=asked), tmp_path)
    assert done.stdout.splitlines() == [
        "foo @ git+https://me:${TOKEN}@host.example/o/foo.git@c0ffee",
        "bar @ https://${A}&B@host.example/bar-2.0-py3-none-any.whl",
        "baz @ https://host.example/baz-2.0-py3-none-any.whl",
    ]


def test_uv_that_would_install_nothing_compiles_nothing(tmp_path: Path) -> None:
    (tmp_path / "plan").write_text("Using Python 3.13.5 environment at: /usr/local\nAudited 1 package in 3ms\n")
    done = uv_shell(tool(BASE.uv_pip_install("attrs")).resolve(constrained=False), tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert tool(BASE.uv_pip_install("attrs")).parse(done.stdout) == ()


def test_uv_that_cannot_resolve_gives_its_exit_code_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "plan").write_text("  x No solution found when resolving dependencies\n")
    done = uv_shell(tool(BASE.uv_pip_install("nope")).resolve(constrained=False), tmp_path, code=2)
    assert (done.returncode, done.stdout) == (2, "")
    assert "No solution found" in done.stderr


def test_uv_takes_requirement_files_by_their_place_in_the_container(tmp_path: Path) -> None:
    for folder in ("a", "b c"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "req's.txt").write_text("six\n")
    image = BASE.uv_pip_install("attrs", requirements=[str(tmp_path / folder / "req's.txt") for folder in ("a", "b c")])
    words = shlex.split(tool(image).resolve(constrained=True).partition("$(")[2].partition(" 2>&1")[0])
    assert words[words.index("-c") :] == [
        "-c",
        CONSTRAINTS,
        "-r",
        "/.uv/0/req's.txt",
        "-r",
        "/.uv/1/req's.txt",
        "attrs",
    ]
    assert tool(image).request == ("attrs", "-r /.uv/0/req's.txt", "-r /.uv/1/req's.txt")
    tools = plan(image).layers[-1].tools
    assert [entry.path for entry in tools] == ["/.uv/0/req's.txt", "/.uv/1/req's.txt"]
    assert {entry.sha256 for entry in tools} == {hashlib.sha256(b"six\n").hexdigest()}


@pytest.mark.parametrize("constrained", [True, False])
def test_a_uv_package_name_cannot_be_more_than_an_argument(tmp_path: Path, constrained: bool) -> None:
    script = tool(BASE.uv_pip_install(EVIL)).resolve(constrained=constrained).replace(UV, str(tmp_path / "bin" / "uv"))
    done = shell(script, tmp_path, uv="printf '%s\\n' \"$@\"; exit 3", python="")
    assert done.stderr.splitlines()[-1] == EVIL
    assert not Path("/tmp/owned").exists()


def test_uv_installs_with_bytecode_and_no_resolution() -> None:
    pins = [Pin(name="attrs", version="1", hashes=("sha256:0",)), Pin(name="foo", version="", url="git+https://h/f@c")]
    python = '"$(command -v python || command -v python3)"'
    command = f"{UV} pip install --python {python} --compile-bytecode --no-deps"
    assert tool(BASE.uv_pip_install("attrs")).script(pins).splitlines() == [
        f"{command} --require-hashes -r {PINS} || exit",
        f"{command} -r {UNHASHED} || exit",
    ]


# both ---------------------------------------------------------------------------------------------------------------


def test_requirement_lines_hold_exact_versions_and_hashes_apart_from_what_has_none() -> None:
    pins = [
        Pin(name="six", version="1.17.0", hashes=(f"sha256:{A}", f"sha256:{B}")),
        Pin(name="bar", version="2", url="https://host.example/bar.whl", hashes=(f"sha256:{A}",)),
        Pin(name="foo", version="", url="git+https://host.example/foo@c0ffee"),
        Pin(name="old", version="1"),
    ]
    assert requirement_files(pins) == {
        PINS: (
            f"six==1.17.0 --hash=sha256:{A} --hash=sha256:{B}\nbar @ https://host.example/bar.whl --hash=sha256:{A}\n"
        ),
        UNHASHED: "foo @ git+https://host.example/foo@c0ffee\nold==1\n",
    }


@pytest.mark.parametrize(
    ("asked", "pinned", "installed"),
    [
        (
            "foo @ https://me:t0ken@h.example/a/foo.whl",
            "https://h.example/a/foo.whl",
            "https://me:t0ken@h.example/a/foo.whl",
        ),
        (
            "git+https://me:$TOKEN@h.example/foo",
            "git+https://h.example/foo@c0ffee",
            "git+https://me:${TOKEN}@h.example/foo@c0ffee",
        ),
        (
            "git+https://me:${TOKEN}@h.example/foo@main#egg=foo",
            "git+https://h.example/foo@c0",
            "git+https://me:${TOKEN}@h.example/foo@c0",
        ),
        (
            "https://t0ken@h.example/f.whl",
            "https://h.example/f.whl#subdirectory=x",
            "https://t0ken@h.example/f.whl#subdirectory=x",
        ),
        (
            "git+https://me:t0ken@h.example/foo",
            "git+https://h.example/foobar@c0ffee",
            "git+https://h.example/foobar@c0ffee",
        ),
        (
            "git+https://me:t0ken@h.example/foo",
            "https://evil.example/h.example/foo",
            "https://evil.example/h.example/foo",
        ),
        ("git+https://me:t0ken@h.example/foo", "http://h.example/foo", "http://h.example/foo"),
        ("foo", "https://h.example/foo", "https://h.example/foo"),
    ],
)
def test_an_address_is_installed_with_the_login_that_the_lockfile_leaves_out(
    asked: str, pinned: str, installed: str
) -> None:
    pins = [Pin(name="foo", version="", url=pinned)]
    assert requirement_files(pins, ["six", asked])[UNHASHED] == f"foo @ {installed}\n"


def test_constraints_keep_versions_but_no_addresses() -> None:
    pins = [Pin(name="six", version="1"), Pin(name="foo", version="2", url="https://host.example/foo.whl")]
    assert constraints_text(pins) == "six==1\n"


def test_a_request_that_is_recorded_holds_no_password() -> None:
    asked = ("foo @ https://me:s3cret@host.example/foo.whl", "bar @ git+ssh://git@host.example/bar")
    kept = ("bar @ git+ssh://git@host.example/bar", "foo @ https://host.example/foo.whl")
    assert tool(BASE.pip_install(*asked)).request == kept
    assert tool(BASE.uv_pip_install(*asked)).request == kept
    title = plan(BASE.pip_install(asked[0])).layers[-1].title
    assert title == 'pip_install("foo @ https://host.example/foo.whl")'


def test_each_tool_has_its_name_in_the_lockfile() -> None:
    images = (BASE.apt_install("a"), BASE.pip_install("a"), BASE.uv_pip_install("a"))
    assert [tool(image).name for image in images] == ["apt", "pip", "uv"]


# Poetry --------------------------------------------------------------------------------------------------------------

POETRY_SAID = """\
Installing dependencies from lock file

Package operations: 2 installs, 1 update, 0 removals, 1 skipped

  - Installing six (1.17.0)
  - Updating attrs (23.1.0 -> 25.4.0)
  - Installing idna (3.10): Skipped for the following reason: Already installed
  • Installing typing-extensions (4.15.0)
imagebuild-poetry-lock
[[package]]
name = "six"
version = "1.17.0"
files = [{file = "six.whl", hash = "sha256:b"}, {file = "six.tar.gz", hash = "sha256:a"}]
[[package]]
name = "attrs"
version = "25.4.0"
files = [{file = "attrs.whl", hash = "sha256:c"}]
[[package]]
name = "typing_extensions"
version = "4.15.0"
files = []
"""


def test_pins_of_poetry_have_the_versions_that_it_would_install_and_the_hashes_of_its_lockfile() -> None:
    assert tool_of(PoetryInstall(pyproject="p", ignore_lockfile=True)).parse(POETRY_SAID) == (
        Pin(name="six", version="1.17.0", hashes=("sha256:a", "sha256:b")),
        Pin(name="attrs", version="25.4.0", hashes=("sha256:c",)),
        Pin(name="typing-extensions", version="4.15.0"),
    )


def test_a_package_that_poetry_takes_from_a_repository_of_sources_is_refused() -> None:
    said = POETRY_SAID + '[package.source]\ntype = "git"\nurl = "https://g"\n'
    with pytest.raises(ImageBuildError) as caught:
        tool_of(PoetryInstall(pyproject="p", ignore_lockfile=True)).parse(said)
    assert str(caught.value) == (
        "poetry_install_from_file: typing-extensions comes from a git source, which cannot be pinned without the "
        "project's own lockfile. Run `poetry lock` and leave ignore_lockfile out."
    )
