"""The dependencies of a Poetry project, in the image's own Python."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_imagebuild.build.installs.files import install_pins
from pytest_imagebuild.errors import ImageBuildError
from pytest_imagebuild.image.steps.poetry import PoetryInstall
from pytest_imagebuild.lockfile import Pin, normal_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["PoetryTool"]

# Poetry keeps its downloads and its notes in folders that no layer shall have.
_SETTINGS = """\
home=$(mktemp -d) || exit
export POETRY_VIRTUALENVS_CREATE=false POETRY_CACHE_DIR="$home/cache" POETRY_CONFIG_DIR="$home/config"
export POETRY_NO_INTERACTION=1 POETRY_DATA_DIR="$home/data"
"""

_INSTALL = """\
{settings}{old}cd /tmp/poetry && poetry install --no-root {options} --compile || exit
cd / && rm -rf "$home"
"""

_RESOLVE = """\
{settings}project=$(mktemp -d) && cp /tmp/poetry/pyproject.toml "$project" && cd "$project" || exit
poetry lock --no-ansi >&2 || exit
poetry install --no-root {options} --dry-run --no-ansi || exit
echo {mark}
cat poetry.lock
"""

_MARK = "imagebuild-poetry-lock"
_INSTALLING = re.compile(
    r"^ *[-•*] (?:Installing|Updating|Downgrading) (?P<name>\S+) \((?:\S+ -> )?(?P<version>[^\s)]+)\)(?!: Skipped)"
)


@dataclass(frozen=True, slots=True)
class PoetryTool:
    """Poetry. With a lockfile of the project's own, that decides, and nothing is left open."""

    install: PoetryInstall

    @property
    def name(self) -> str:
        """The name in the lockfile."""
        return "poetry"

    @property
    def request(self) -> tuple[str, ...]:
        """What the definition asks for."""
        return ("pyproject.toml", *([self.install.options()] if self.install.options() else []))

    def resolve(self, *, constrained: bool, asked: Sequence[str] = ()) -> str:  # noqa: ARG002 - a project says it all
        """Return the script that prints what would be installed, and the lockfile that has the hashes."""
        return _RESOLVE.format(settings=_SETTINGS, options=self.install.options(), mark=_MARK)

    def parse(self, printed: str) -> tuple[Pin, ...]:
        """Read the pins. Raises ImageBuildError for what pip could not install again."""
        said, _, lock = printed.partition(f"{_MARK}\n")
        locked = {normal_name(item["name"]): item for item in tomllib.loads(lock).get("package", ())}
        wanted = (match for line in said.splitlines() if (match := _INSTALLING.match(line)))
        return tuple(_pin(normal_name(match["name"]), match["version"], locked) for match in wanted)

    def script(self, pins: Sequence[Pin]) -> str:
        """Return the script that installs exactly `pins`, or what the project's own lockfile pins."""
        if self.install.ignore_lockfile:
            indexes = "".join(f" --extra-index-url {shlex.quote(url)}" for url in self.install.indexes)
            return install_pins(f"python -m pip install --no-deps{indexes}", pins)
        old = "poetry config experimental.new-installer false || exit\n" if self.install.old_installer else ""
        return _INSTALL.format(settings=_SETTINGS, old=old, options=self.install.options())


def _pin(name: str, version: str, locked: dict[str, dict[str, object]]) -> Pin:
    found = locked.get(name, {})
    source = found.get("source")
    if isinstance(source, dict) and source.get("type") not in (None, "legacy"):
        message = (
            f"poetry_install_from_file: {name} comes from a {source.get('type')} source, which cannot be pinned "
            "without the project's own lockfile. Run `poetry lock` and leave ignore_lockfile out."
        )
        raise ImageBuildError(message)
    files = found.get("files")
    hashes = {str(item["hash"]) for item in files if "hash" in item} if isinstance(files, list) else set()
    return Pin(name=name, version=version, hashes=tuple(sorted(hashes)))
