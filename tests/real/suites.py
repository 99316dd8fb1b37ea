"""Suites that nobody here wrote, run by plain pytest in a container and through the plugin in the same image.

Every project is an sdist of PyPI; what its tests need is what it says itself, or what its own CI installs. Nothing else
is known about any of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["SUITES", "Both", "Suite", "run_both"]

TIMEOUT = 900
_NOT_INHERITED = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER", "TOX_ENV_DIR")
_VARIES = ("time", "timestamp", "hostname")
"""What no two runs have in common. The host's name is that of the container, or of the host."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """A project of PyPI, what its tests need, and the arguments that its own CI runs them with."""

    name: str
    version: str
    needs: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    pytest: str = pytest.__version__


SUITES = (
    Suite(name="pluggy", version="1.7.0", needs=("pytest-benchmark==5.3.1",)),
    Suite(name="iniconfig", version="2.3.1"),
    Suite(
        name="python-dateutil",
        version="4.0.0",
        needs=("attrs==26.1.0", "freezegun==1.5.5", "hypothesis==6.170.15", "pytest-cov==7.1.0"),
    ),
    Suite(name="itsdangerous", version="2.2.0", needs=("freezegun==1.5.5",)),
    Suite(
        name="attrs",
        version="25.4.0",
        needs=("hypothesis==6.170.15", "cloudpickle==3.1.3", "pympler==1.1", "pytest-xdist==3.8.0"),
    ),
    Suite(name="jinja2", version="3.1.6", needs=("trio==0.35.0",)),
    Suite(name="more-itertools", version="10.8.0"),
    Suite(name="humanize", version="4.13.0", needs=("freezegun==1.5.5", "pytest-cov==7.1.0")),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Both:
    """The JUnit files of the two runs, without what varies, and what the runs printed."""

    plain: ET.Element
    plugin: ET.Element
    plain_text: str
    plugin_text: str


def run_both(suite: Suite, folder: Path, environment: Mapping[str, str], more: Sequence[str] = ()) -> Both:
    """Unpack a suite below `folder` and run it twice on the engine that `environment` chooses."""
    project = _unpacked(suite, folder)
    (folder / "images.py").write_text(
        _IMAGES.format(packages=[f"{suite.name}=={suite.version}", *_needs(suite)]), "utf-8"
    )
    arguments = ["-p", "no:cacheprovider", "-rA", "-o", "junit_logging=all", *suite.arguments, *more]
    (folder / "native").mkdir()
    (folder / "native" / "pytest.ini").write_text("[pytest]\n", "utf-8")
    (folder / "native" / "test_native.py").write_text(
        _NATIVE.format(project=str(project), arguments=arguments, folder=str(folder)), "utf-8"
    )
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    variables = {**inherited, **environment, "COLUMNS": "100"}
    native = _pytest(["-q", "-s", "-p", "no:xdist", "--rootdir", "."], folder / "native", variables)
    assert native.returncode == 0, native.stdout + native.stderr
    inside = _pytest(
        [
            "-p",
            "no:xdist",
            "--image",
            f"{folder / 'images.py'}:IMAGE",
            "--junit-xml",
            str(folder / "plugin.xml"),
            *arguments,
        ],
        project,
        variables,
    )
    assert (folder / "plugin.xml").exists(), inside.stdout + inside.stderr
    return Both(
        plain=_read(folder / "plain.xml"),
        plugin=_read(folder / "plugin.xml"),
        plain_text=(folder / "plain.txt").read_text("utf-8"),
        plugin_text=inside.stdout + inside.stderr,
    )


def _needs(suite: Suite) -> list[str]:
    return [f"pytest=={suite.pytest}", *suite.needs]


def _unpacked(suite: Suite, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    done = subprocess.run(
        [*command, "--dest", str(folder), f"{suite.name}=={suite.version}"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    (project,) = (path.parent for path in folder.glob("*/PKG-INFO"))
    return project


def _pytest(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=folder,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def _read(path: Path) -> ET.Element:
    root = ET.parse(path).getroot()
    for element in root.iter():
        for name in _VARIES:
            element.attrib.pop(name, None)
        if element.tag == "property" and element.attrib["name"].startswith("hypothesis-statistics-"):
            element.attrib["value"] = "the times of examples"
    return root


_IMAGES = """
from pytest_imagebuild import Image

IMAGE = Image.from_registry("python:3.13-slim-trixie").uv_pip_install(*{packages!r})
"""

_NATIVE = """
import io
import os
import sys
import tarfile

sys.path.insert(0, {folder!r})
from images import IMAGE


def test_native(image_container):
    container = image_container(IMAGE, command=["sleep", "3600"])
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add({project!r}, arcname={project!r})
    container.write("/tmp/project.tar", stream.getvalue())
    done = container.exec(["tar", "-xf", "/tmp/project.tar", "-C", "/"])
    assert done.exit_code == 0, done.stderr
    command = "cd {project} && exec python -m pytest --junit-xml /tmp/plain.xml \\"$@\\""
    done = container.exec(["sh", "-c", command, "sh", *{arguments!r}], environment={{"COLUMNS": "100"}})
    with open({folder!r} + "/plain.txt", "wb") as file:
        file.write(done.stdout + done.stderr)
    with open({folder!r} + "/plain.xml", "wb") as file:
        file.write(container.read("/tmp/plain.xml"))
"""
