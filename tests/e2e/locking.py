"""A project with one image whose installs the lockfile pins, and the index that they come from."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bases import OwnBase
from engines import EngineUnderTest
from packages import PackageIndex, index_of_the_host

__all__ = ["TIMEOUT", "Locking", "index", "locking"]

TIMEOUT = 180

PROJECT = """
from pytest_imagebuild import {names}

below = Image.from_registry("{base}").env({{"NONCE": "{nonce}"}})
image = below.{call}

def test_image(image_build):
    print("layer", image_build(image).reference)
"""

VERSIONS = "import importlib.metadata as m, sys; [print(n, m.version(n)) for n in sys.argv[1:]]"


@pytest.fixture
def index(engine: EngineUnderTest) -> Iterator[PackageIndex]:
    with index_of_the_host(engine.host_address) as index:
        yield index


class Locking:
    """A project with one image, and what its runs install and write."""

    def __init__(self, project: pytest.Pytester, base: OwnBase, nonce: str, engine: EngineUnderTest) -> None:
        self.project = project
        self.engine = engine
        self._base = base
        self._nonce = nonce

    @property
    def lockfile(self) -> str:
        return (self.project.path / "imagebuild.lock").read_text()

    def define(self, call: str, *, names: str = "Image") -> None:
        text = PROJECT.format(base=self._base.reference, nonce=self._nonce, call=call, names=names)
        self.project.makepyfile(text)

    def run(self, *flags: str) -> pytest.RunResult:
        return self.project.runpytest_subprocess("-rP", *flags, timeout=TIMEOUT)

    def installed(self, *names: str, flags: tuple[str, ...] = ()) -> dict[str, str]:
        """Build, and return the versions of packages in the image."""
        printed = self.engine.output_of(self.layer(*flags), ["python3", "-c", VERSIONS, *names])
        return dict(line.split() for line in printed.splitlines())

    def layer(self, *flags: str) -> str:
        """Build, and return what the engine knows the layer by."""
        result = self.run(*flags)
        result.assert_outcomes(passed=1)
        layer = re.search(r"^layer (\S+)$", result.stdout.str(), re.MULTILINE)
        assert layer
        return layer[1]

    def pinned(self) -> dict[str, str]:
        """Lock, and return the versions that the lockfile has for the image."""
        script = str(Path(sys.executable).with_name("imagebuild"))
        result = self.project.run(script, "lock", timeout=TIMEOUT)
        assert result.ret == 0, result.stderr.str()
        return dict(re.findall(r'name = "(.*)"\nversion = "(.*)"', self.lockfile))

    def forget(self) -> None:
        """Remove the layers, so that the next run builds from nothing."""
        self.engine.remove_layers(self._nonce)


@pytest.fixture
def locking(project: pytest.Pytester, base: OwnBase, nonce: str, engine: EngineUnderTest) -> Locking:
    return Locking(project, base, nonce, engine)
