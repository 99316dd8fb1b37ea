"""The dependencies of a uv project, in a virtual environment of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_imagebuild.build.installs.files import install_pins
from pytest_imagebuild.build.installs.uv import PYTHON, UV, uv_pins
from pytest_imagebuild.image.steps.uv_sync import UvSync
from pytest_imagebuild.lockfile import Pin

__all__ = ["UvSyncTool"]

# In a copy, because uv writes the lockfile beside the project that it resolves. The second uv reads the indexes of the
# project there, takes out what is for other platforms, and adds the hashes of every file that fits.
_RESOLVE = """\
project=$(mktemp -d) && cp /.uv/pyproject.toml "$project" || exit
[ ! -f /.uv/uv.lock ] || cp /.uv/uv.lock "$project" || exit
cd "$project" || exit
exported=$({uv} export --no-emit-workspace --no-hashes --no-header --no-annotate --quiet {options}) || exit
printf '%s\\n' "$exported" | {uv} pip compile - --python {python} --prerelease allow \
  --no-deps --generate-hashes --no-header --no-annotate --quiet
"""

_INSTALL = """\
cd /.uv && {uv} venv --quiet --allow-existing .venv || exit
{install}
"""


@dataclass(frozen=True, slots=True)
class UvSyncTool:
    """uv, in a project. With a lockfile of the project's own, that decides, and nothing is left open."""

    install: UvSync

    @property
    def name(self) -> str:
        """The name in the lockfile."""
        return "uv"

    @property
    def request(self) -> tuple[str, ...]:
        """What the definition asks for."""
        chosen = [f"--group={name}" for name in self.install.groups]
        return ("pyproject.toml", *chosen, *(f"--extra={name}" for name in self.install.extras))

    def resolve(self, *, constrained: bool, asked: Sequence[str] = ()) -> str:  # noqa: ARG002 - a project says it all
        """Return the script that prints what would be installed."""
        return _RESOLVE.format(uv=UV, python=PYTHON, options=self.install.options())

    def parse(self, printed: str) -> tuple[Pin, ...]:
        """Read the pins from a compiled requirements file."""
        return tuple(uv_pins(printed))

    def script(self, pins: Sequence[Pin]) -> str:
        """Return the script that installs exactly `pins`, or what the project's own lockfile pins."""
        if not self.install.is_open:
            return self.install.command()
        command = f"{UV} pip install --python .venv/bin/python --compile-bytecode --no-deps"
        return _INSTALL.format(uv=UV, install=install_pins(command, pins))
