"""Choosing an engine: what is loaded for one that does not answer, and what is told of one that cannot be loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_LOADED = """
import sys
from pathlib import Path
from pytest_imagebuild.engines.choose import choose_engine
from pytest_imagebuild.errors import EngineUnavailableError

try:
    choose_engine("docker", run="run", cache_dir=Path("cache")).capabilities()
except EngineUnavailableError as error:
    print(error)
print(sorted({"docker", "requests", "urllib3"} & set(sys.modules)))
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_where_no_docker_answers_its_library_is_not_loaded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{home}/none.sock")
    said, loaded = _run().splitlines()
    assert said.startswith(f"Docker does not answer at unix://{home}/none.sock: there is no such socket. ")
    assert loaded == "[]"


def test_a_context_is_read_by_its_library(home: Path) -> None:
    folder = home / ".docker"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"currentContext": "far"}))
    said, loaded = _run().splitlines()
    assert said == "there is no Docker context named as the Docker config says; see `docker context ls`."
    assert loaded == "['docker', 'requests', 'urllib3']"


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_configuration_that_cannot_be_read_is_left_to_the_library(
    home: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "other"))
    (home / "other").mkdir()
    (home / "other" / "config.json").write_text(content)
    assert _run().splitlines()[-1] == "['docker', 'requests', 'urllib3']"


def test_a_library_that_is_not_there_is_told_with_the_command_that_installs_it(home: Path) -> None:
    (home / ".docker").mkdir()
    (home / ".docker" / "config.json").write_text('{"currentContext": "far"}')
    said, _ = _run("import sys; sys.modules['docker'] = None").splitlines()
    assert said.startswith("the docker engine cannot be loaded: ")
    assert said.endswith(". Install what it needs: `pip install docker testcontainers`.")


def _run(before: str = "") -> str:
    ran = subprocess.run(
        [sys.executable, "-c", f"{before}\n{_LOADED}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
