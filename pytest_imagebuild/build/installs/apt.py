"""Debian packages."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_imagebuild.build.installs.tool import CHANGED, GONE
from pytest_imagebuild.image.steps.apt import AptInstall
from pytest_imagebuild.lockfile import Pin

__all__ = ["AptTool"]

# By default a half-read index is a success, and a resolution from it depends on the weather.
_APT_UPDATE = "apt-get update -o APT::Update::Error-Mode=any -o Acquire::Retries=3"

_APT_RESOLVE = """\
{update} >&2 || exit
plan=$(apt-get install -s {packages}) || exit
set -- $(printf '%s\\n' "$plan" | sed -n 's/^Inst \\([^ ]*\\) \\(\\[[^]]*\\] \\)\\{{0,1\\}}(\\([^ ]*\\) .*/\\1=\\3/p')
[ $# -eq 0 ] || apt-cache show --no-all-versions "$@"
"""

_APT_INSTALL = """\
{update} || exit
offered=$(apt-cache show --no-all-versions {exact} | awk '
  /^Package: / {{ name = $2 }}
  /^Version: / {{ version = $2; print ";" name "=" version " ," }}
  /^SHA256: / {{ print ";" name "=" version " " $2 "," }}')
for pin in {pins}; do
  case "$offered" in
    *";$pin,"*) ;;
    *";${{pin% *}} "*)
      echo "imagebuild: ${{pin% *}} in the index has not the locked sha256 ${{pin#* }}"
      exit {changed} ;;
    *)
      echo "imagebuild: the index has no ${{pin% *}}"
      exit {gone} ;;
  esac
done
apt-get install -y --no-install-recommends --allow-downgrades {exact} || exit
{marks}
"""


@dataclass(frozen=True, slots=True)
class AptTool:
    """apt, which asks the index of the image's own sources."""

    install: AptInstall

    @property
    def name(self) -> str:
        """The name in the lockfile."""
        return "apt"

    @property
    def request(self) -> tuple[str, ...]:
        """What the definition asks for."""
        return self.install.packages

    def resolve(self, *, constrained: bool, asked: Sequence[str] = ()) -> str:  # noqa: ARG002 - an index knows neither
        """Return the script that prints what would be installed."""
        return _APT_RESOLVE.format(update=_APT_UPDATE, packages=shlex.join(self.install.packages))

    def parse(self, printed: str) -> tuple[Pin, ...]:
        """Read the pins from what the resolving script printed."""
        return tuple(dict.fromkeys(_apt_pins(printed)))

    def script(self, pins: Sequence[Pin]) -> str:
        """Return the script that installs exactly `pins`."""
        return _apt_script(self.install, pins)


def _apt_script(install: AptInstall, pins: Sequence[Pin]) -> str:
    if not pins:
        return _APT_UPDATE
    asked = {re.split(r"[:=/]", package, maxsplit=1)[0] for package in install.packages}
    automatic = [_apt_name(pin) for pin in pins if pin.name not in asked]
    return _APT_INSTALL.format(
        update=_APT_UPDATE,
        exact=shlex.join(f"{_apt_name(pin)}={pin.version}" for pin in pins),
        pins=shlex.join(f"{pin.name}={pin.version} {_sha256(pin)}" for pin in pins),
        gone=GONE,
        changed=CHANGED,
        marks=f"apt-mark auto {shlex.join(automatic)} >/dev/null" if automatic else "",
    )


def _sha256(pin: Pin) -> str:
    return pin.hashes[0].removeprefix("sha256:") if pin.hashes else ""


def _apt_name(pin: Pin) -> str:
    return pin.name if pin.architecture in {"", "all"} else f"{pin.name}:{pin.architecture}"


def _apt_pins(printed: str) -> Iterator[Pin]:
    for stanza in re.split(r"\n\s*\n", printed):
        found = dict(re.findall(r"^(Package|Version|Architecture|SHA256): (.*)$", stanza, re.MULTILINE))
        if "Package" in found:
            yield Pin(
                name=found["Package"],
                version=found["Version"],
                architecture=found["Architecture"],
                hashes=(f"sha256:{found['SHA256']}",) if "SHA256" in found else (),
            )
