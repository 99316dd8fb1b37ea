"""Projects of pip, uv and Poetry: their own lockfile decides; what it leaves open is pinned like any install."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from locking import Locking
from packages import PackageIndex, wheel

PROJECT = """
[project]
name = "shop"
version = "1"
requires-python = ">=3.9"
dependencies = ["demo"]

[project.optional-dependencies]
web = ["extra"]

[dependency-groups]
check = ["checker"]
"""

UV_LOCK = """
version = 1
revision = 3
requires-python = ">=3.9"

[[package]]
name = "demo"
version = "1.0"
source = {{ registry = "{index}" }}
wheels = [{{ url = "{files}/demo/demo-1.0-py3-none-any.whl", hash = "sha256:{hash}" }}]

[[package]]
name = "shop"
version = "1"
source = {{ virtual = "." }}
dependencies = [{{ name = "demo" }}]

[package.metadata]
requires-dist = [{{ name = "demo" }}]
"""

POETRY = """
[tool.poetry]
name = "shop"
version = "1"
description = ""
authors = []

[tool.poetry.dependencies]
python = ">=3.9"
demo = "*"

[tool.poetry.group.check.dependencies]
checker = "*"

[[tool.poetry.source]]
name = "here"
url = "{index}"
priority = "primary"
"""


def publish(index: PackageIndex, version: str) -> None:
    for name in ("demo", "extra", "checker"):
        index.publish(name, version)


def write(locking: Locking, **files: str) -> None:
    for name, text in files.items():
        Path(locking.project.path, name.replace("_", ".")).write_text(text)


CALLS = {
    'pip_install_from_requirements("requirements.txt")': {"demo"},
    'pip_install_from_pyproject("pyproject.toml", ["web"])': {"demo", "extra"},
    'uv_sync(groups=["check"], extras=["web"])': {"demo", "extra", "checker"},
}


@pytest.mark.parametrize("call", CALLS)
def test_what_a_project_leaves_open_is_pinned_until_an_upgrade(
    locking: Locking, index: PackageIndex, call: str
) -> None:
    publish(index, "1.0")
    write(locking, pyproject_toml=PROJECT, requirements_txt="demo\n")
    locking.define(call)
    assert locking.installed(*CALLS[call]) == dict.fromkeys(CALLS[call], "1.0")

    publish(index, "2.0")
    locking.forget()
    assert locking.installed(*CALLS[call], flags=("--image-locked",)) == dict.fromkeys(CALLS[call], "1.0")
    assert locking.installed(*CALLS[call], flags=("--image-lock-upgrade",)) == dict.fromkeys(CALLS[call], "2.0")


def test_the_lockfile_of_a_uv_project_decides(locking: Locking, index: PackageIndex) -> None:
    publish(index, "1.0")
    digest = hashlib.sha256(wheel("demo", "1.0")).hexdigest()
    publish(index, "2.0")
    lock = UV_LOCK.format(index=index.url, files=f"http://{index.address}/files", hash=digest)
    plain = PROJECT.partition("[project.optional")[0]
    write(locking, pyproject_toml=plain, uv_lock=lock)
    locking.define("uv_sync()")
    assert locking.installed("demo", flags=("--image-lock-upgrade",)) == {"demo": "1.0"}
    assert "demo" not in locking.lockfile


def test_nothing_of_a_project_but_its_packages_is_in_the_layer(locking: Locking, index: PackageIndex) -> None:
    publish(index, "1.0")
    write(locking, pyproject_toml=PROJECT)
    locking.define("uv_sync()")
    locking.installed("demo")
    layer = locking.layer()
    assert locking.engine.output_of(layer, ["sh", "-c", "ls -A /.uv"]).split() == [".venv"]
    printed = locking.engine.output_of(layer, ["sh", "-c", 'command -v python; echo "$PATH"'])
    python, path = printed.split()
    assert python == "/.uv/.venv/bin/python"
    assert path.startswith("/.uv/.venv/bin:/usr/local/")


def test_a_poetry_project_without_its_lockfile_is_pinned(locking: Locking, index: PackageIndex) -> None:
    publish(index, "1.0")
    write(locking, pyproject_toml=POETRY.format(index=index.url))
    locking.define('poetry_install_from_file("pyproject.toml", ignore_lockfile=True, without=["check"])')
    assert locking.installed("demo") == {"demo": "1.0"}
    assert '"checker"' not in locking.lockfile

    publish(index, "2.0")
    locking.forget()
    assert locking.installed("demo", flags=("--image-locked",)) == {"demo": "1.0"}
    left = locking.engine.output_of(locking.layer(), ["sh", "-c", "ls -A /tmp; ls -d /root/.config /root/.cache || :"])
    assert left.split() == []
