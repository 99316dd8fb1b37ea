"""`examples/modal_definitions`: each definition builds, and its tests pass in it.

What only the Internet has is served here: a private index, a conda channel and micromamba's image, a hub for models, a
standalone CPython.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final
from xml.etree import ElementTree as ET

import pytest
from conda import CondaChannels, provide_micromamba
from engines import EngineUnderTest
from inner import Inner, Ran
from packages import PackageIndex
from serving import Answer, Request, Served
from standalone import python_archive, python_downloads

SOURCE = Path(__file__).parents[2] / "examples" / "modal_definitions"
MODULES = sorted(path.stem for path in SOURCE.glob("test_*.py"))
TIMEOUT = 1200
TOKEN = "token-of-the-hub"
LOGIN = "acme:password-of-the-index"
HUB = "/hf-internal-testing/tiny-stable-diffusion-pipe/resolve/main/"
PYTHON = "3.13.17"


@dataclass(frozen=True, kw_only=True)
class Definitions:
    """Two runs of all definitions: the outcomes of the first by module, and what both printed."""

    outcomes: Mapping[str, list[str]]
    first: Ran
    second: Ran
    lockfile: str


@pytest.fixture(scope="module")
def served(engine: EngineUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Serve what is not to be had everywhere; return the variables by which it is found."""
    folder = tmp_path_factory.mktemp("served")
    provide_micromamba()
    address = engine.host_address
    with contextlib.ExitStack() as stack:
        index = stack.enter_context(PackageIndex(address, login=LOGIN))
        index.publish("acme_prices", "1.4")
        channels = stack.enter_context(CondaChannels(address))
        channels.publish_python("conda-forge", "3.13.5")
        channels.publish_wheel("conda-forge", _downloaded("mpmath==1.3.0", folder))
        archive = python_archive(folder)
        files = stack.enter_context(Files(address))
        files.bodies = {
            "/python.tar.gz": archive,
            "/python.json": python_downloads(PYTHON, files.url("/python.tar.gz"), archive),
            f"{HUB}unet/config.json": json.dumps({"sample_size": 32, "out_channels": 4}).encode(),
        }
        yield {
            "ACME_INDEX": index.url,
            "PIP_TRUSTED_HOST": index.host,
            "MAMBA_CHANNEL_ALIAS": channels.url,
            "UV_PYTHON_DOWNLOADS_JSON_URL": files.url("/python.json"),
            "HF_ENDPOINT": files.url(""),
            "HF_TOKEN": TOKEN,
        }


@pytest.fixture(scope="module")
def definitions(
    engine: EngineUnderTest, served: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Definitions:
    home = tmp_path_factory.mktemp("modal")
    project = Inner(home, engine, environment=served)
    shutil.copytree(SOURCE, project.folder, ignore=shutil.ignore_patterns("__pycache__", "imagebuild.lock", ".*cache"))
    first = project.begin("--junitxml", str(home / "report.xml")).wait(TIMEOUT)
    second = project.run("--image-locked")
    outcomes: dict[str, list[str]] = {}
    for case in ET.parse(home / "report.xml").iter("testcase"):
        outcomes.setdefault(case.attrib["classname"], []).append(" ".join(child.tag for child in case) or "passed")
    lockfile = (project.folder / "imagebuild.lock").read_text()
    return Definitions(outcomes=outcomes, first=first, second=second, lockfile=lockfile)


def test_there_are_twelve() -> None:
    assert len(MODULES) == 12


@pytest.mark.parametrize("module", MODULES)
def test_the_tests_of_a_definition_pass_in_its_image(module: str, definitions: Definitions) -> None:
    found = definitions.outcomes.get(module, [])
    assert set(found) == {"passed"}, definitions.first.text


def test_the_second_time_nothing_is_built(definitions: Definitions) -> None:
    assert definitions.second.code == 0, definitions.second.text
    assert ", built 0" in definitions.second.out


def test_no_login_is_told_or_locked(definitions: Definitions) -> None:
    assert "acme_prices" in definitions.lockfile.replace("-", "_")
    for text in (definitions.lockfile, definitions.first.text, definitions.second.text):
        assert TOKEN not in text
        assert LOGIN.partition(":")[2] not in text


def _downloaded(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), requirement]
    subprocess.run(command, check=True, timeout=300)
    return next(folder.glob("*.whl"))


@final
class Files(Served):
    """Bytes by path; those of the hub are for who has the token."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.bodies: dict[str, bytes] = {}

    def url(self, path: str) -> str:
        return f"http://{self.address}{path}"

    def answer(self, request: Request) -> Answer:
        if request.path.startswith(HUB) and request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return 403, b"", {}
        body = self.bodies.get(request.path)
        return (404, b"", {}) if body is None else (200, body, {})
