"""Packages out of private git repositories: the token is used, pinned past, and left nowhere."""

from __future__ import annotations

import base64
import functools
import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engines import EngineUnderTest, on_one_engine
from locking import Locking

USER, TOKEN = "tester", "t0ken-of-a-private-repository"
PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "hidden"
version = "{version}"
[tool.setuptools]
py-modules = ["hidden"]
"""


class Repository:
    """A git repository with one Python package, served as plain files to who knows the token."""

    def __init__(self, folder: Path) -> None:
        self.work, self.bare = folder / "work", folder / "served" / "owner" / "hidden"
        self.address = ""
        self._git(folder, "init", "-q", "-b", "main", str(self.work))
        self.commit("1.0")

    def commit(self, version: str) -> str:
        """Make a version and serve it; return the commit."""
        (self.work / "hidden.py").write_text(f"version = {version!r}\n")
        (self.work / "pyproject.toml").write_text(PYPROJECT.format(version=version))
        self._git(self.work, "add", ".")
        self._git(self.work, "-c", "user.name=T", "-c", "user.email=t@t", "commit", "-qm", version)
        if not self.bare.exists():
            self._git(self.work, "clone", "-q", "--bare", str(self.work), str(self.bare))
        self._git(self.work, "push", "-q", str(self.bare), "main")
        self._git(self.bare, "update-server-info")
        return self._git(self.work, "rev-parse", "HEAD").strip()

    def _git(self, folder: Path, *arguments: str) -> str:
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        command = ["git", *arguments]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout


class _Files(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        expected = "Basic " + base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()
        if self.headers.get("Authorization") == expected:
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def repository(tmp_path: Path, engine: EngineUnderTest) -> Iterator[Repository]:
    found = Repository(tmp_path)
    handler = functools.partial(_Files, directory=str(tmp_path / "served"))
    server = http.server.ThreadingHTTPServer((engine.host_address, 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    found.address = f"{engine.host_address}:{server.server_port}"
    yield found
    server.shutdown()
    thread.join(10)
    server.server_close()


def call(repository: Repository, secret: str) -> str:
    """Return the call that installs from github.com, which git in the step takes for the served repository."""
    return f"""pip_install_private_repos(
    "github.com/owner/hidden",
    git_user="{USER}",
    secrets=[Secret.from_dict({{"{secret}": "{TOKEN}"}})],
    env={{
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "url.http://{USER}:{TOKEN}@{repository.address}/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://{USER}:{TOKEN}@github.com/",
    }},
)"""


def test_a_private_repository_is_pinned_by_its_commit_and_leaves_no_token(
    locking: Locking, repository: Repository
) -> None:
    first = repository.commit("1.1")
    locking.define(call(repository, "GITHUB_TOKEN"), names="Image, Secret")
    assert locking.installed("hidden") == {"hidden": "1.1"}
    assert f'url = "git+https://github.com/owner/hidden@{first}"' in locking.lockfile
    assert TOKEN not in locking.lockfile
    found = locking.engine.output_of(
        locking.layer(), ["sh", "-c", f"grep -rl --exclude-dir=proc --exclude-dir=sys {TOKEN} / 2>/dev/null || :"]
    )
    assert found.split() == []

    repository.commit("1.2")
    locking.forget()
    assert locking.installed("hidden", flags=("--image-locked",)) == {"hidden": "1.1"}
    assert locking.installed("hidden", flags=("--image-lock-upgrade",)) == {"hidden": "1.2"}


@on_one_engine()
def test_a_token_that_the_secrets_do_not_give_is_named(locking: Locking, repository: Repository) -> None:
    locking.define(call(repository, "GITLAB_TOKEN"), names="Image, Secret")
    result = locking.run()
    result.assert_outcomes(failed=1)
    assert "GITHUB_TOKEN is not among the secrets" in result.stdout.str()
