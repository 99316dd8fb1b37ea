"""Python packages with the image's pip."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_imagebuild.build.installs.files import CONSTRAINTS, install_pins
from pytest_imagebuild.image.steps.pip import PipInstall
from pytest_imagebuild.image.wording import without_credentials
from pytest_imagebuild.lockfile import Pin, normal_name

__all__ = ["PipTool"]

# Why it did not reach an index, pip tells its log only; to the user it says that there is no such package. With a log
# it shows the progress of downloads however quiet it is asked to be, on the output that the report comes on.
_TOLD = """\
PIP_LOG=/dev/shm/imagebuild-pip.log
PIP_PROGRESS_BAR=off
export PIP_LOG PIP_PROGRESS_BAR
(
{script}
) || {{
  code=$?
  {{
    sed -n 's/^.*\\(Could not fetch URL\\)/\\1/p' "$PIP_LOG" | sort -u
    asked='The last page of an index that pip asked for: '
    sed -n "s/^.*Fetching project page and analyzing links: /$asked/p" "$PIP_LOG" | tail -n 1
  }} >&2 2>/dev/null
  exit $code
}}"""


@dataclass(frozen=True, slots=True)
class PipTool:
    """pip, which reports what it would install."""

    install: PipInstall

    @property
    def name(self) -> str:
        """The name in the lockfile."""
        return "pip"

    @property
    def request(self) -> tuple[str, ...]:
        """What the definition asks for, without passwords."""
        packages = tuple(without_credentials(package) for package in self.install.packages)
        return (*packages, *(f"-r {path}" for path in self.install.remote_requirements()))

    def resolve(self, *, constrained: bool, asked: Sequence[str] = ()) -> str:  # noqa: ARG002 - pip shows what it asked
        """Return the script that prints what would be installed."""
        extra = f"-c {CONSTRAINTS}" if constrained else ""
        wanted = [*(f"-r {shlex.quote(path)}" for path in self.install.remote_requirements())]
        wanted.append(shlex.join(self.install.packages))
        return _TOLD.format(script=f"{_pip(self.install)} --quiet --dry-run --report - {extra} {' '.join(wanted)}")

    def parse(self, printed: str) -> tuple[Pin, ...]:
        """Read the pins from pip's report."""
        return tuple(_pip_pins(printed))

    def script(self, pins: Sequence[Pin]) -> str:
        """Return the script that installs exactly `pins`."""
        script = install_pins(f"{_pip(self.install)} --no-deps", pins)
        return _TOLD.format(script=script) if pins else script


def _pip(install: PipInstall) -> str:
    parts = [install.executable, "install", *(["--upgrade"] if install.upgrade else []), *install.options.index_flags()]
    parts += ["--pre"] if install.options.pre else []
    return " ".join([*parts, install.options.extra_options]).rstrip()


def _pip_pins(printed: str) -> Iterator[Pin]:
    report = json.loads(printed)
    for item in report["install"]:
        metadata, download = item["metadata"], item["download_info"]
        yield Pin(
            name=normal_name(metadata["name"]),
            version=metadata["version"],
            url=_direct_url(download) if item.get("is_direct") else "",
            hashes=tuple(f"sha256:{value}" for value in _archive_sha256(download.get("archive_info", {}))),
        )


def _archive_sha256(archive: dict[str, Any]) -> Iterator[str]:
    """Yield the sha256 of an archive, if pip reports it; before 23.1 it did so as `hash = "sha256=…"` only."""
    kind, _, value = archive.get("hash", "").partition("=")
    found = archive.get("hashes", {}).get("sha256") or (value if kind == "sha256" else "")
    if found:
        yield found


def _direct_url(download: dict[str, Any]) -> str:
    url = without_credentials(download["url"])
    if "vcs_info" in download:
        url = f"{download['vcs_info']['vcs']}+{url}@{download['vcs_info']['commit_id']}"
    return f"{url}#subdirectory={download['subdirectory']}" if download.get("subdirectory") else url
