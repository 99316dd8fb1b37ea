"""Install layers: how each tool is asked what it would install, and how exactly that set is installed.

`resolve` runs in a throw-away container of the parent and changes nothing; `script` installs the pins of the
lockfile, with no resolution. Both are `/bin/sh` scripts; `parse` reads what the resolving script printed.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_imagebuild.image.instructions import AptInstall, Install, PipInstall, UvPipInstall
from pytest_imagebuild.image.wording import without_credentials
from pytest_imagebuild.lockfile import Pin, normal_name

__all__ = ["CONSTRAINTS", "PINS", "UNHASHED", "UV", "Tool", "advice", "tool_of"]

PINS = "/dev/shm/imagebuild-pins.txt"  # noqa: S108 - a path inside a container
UNHASHED = "/dev/shm/imagebuild-unhashed.txt"  # noqa: S108 - a path inside a container
CONSTRAINTS = "/dev/shm/imagebuild-constraints.txt"  # noqa: S108 - a path inside a container
UV = "/.uv/uv"

GONE = 91
CHANGED = 92
ADVICE = {
    GONE: "A locked version is no longer in the package index. Update the lock: --image-lock-upgrade.",
    CHANGED: "The index serves other bytes than the lockfile recorded. Do not trust it blindly; if the change is "
    "expected, update the lock: --image-lock-upgrade.",
}
"""What to do about the exit codes that our own scripts use."""

_SAID = {
    CHANGED: ("DO NOT MATCH THE HASHES", "Hash mismatch for"),
    GONE: ("No matching distribution found for", "there is no version of"),
}
"""What pip and uv say when a pin cannot be installed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """An installer, bound to one request."""

    install: Install

    @property
    def name(self) -> str:
        """`apt`, `pip` or `uv`: the name in the lockfile."""
        match self.install:
            case AptInstall():
                return "apt"
            case PipInstall():
                return "pip"
            case UvPipInstall():
                return "uv"

    @property
    def request(self) -> tuple[str, ...]:
        """What the definition asks for, as the lockfile records it: without passwords."""
        packages = tuple(without_credentials(package) for package in self.install.packages)
        if isinstance(self.install, UvPipInstall):
            return (*packages, *(f"-r {path}" for path in self.install.remote_requirements()))
        return packages

    def resolve(self, *, constrained: bool) -> str:
        """Return the script that prints what would be installed."""
        match self.install:
            case AptInstall():
                return _APT_RESOLVE.format(update=_APT_UPDATE, packages=shlex.join(self.install.packages))
            case PipInstall():
                extra = f"-c {CONSTRAINTS}" if constrained else ""
                return f"{_pip(self.install)} --quiet --dry-run --report - {extra} {shlex.join(self.install.packages)}"
            case UvPipInstall():
                return _uv_resolve(self.install, constrained=constrained)

    def parse(self, printed: str) -> tuple[Pin, ...]:
        """Read the pins from what the resolving script printed."""
        match self.install:
            case AptInstall():
                return tuple(dict.fromkeys(_apt_pins(printed)))
            case PipInstall():
                return tuple(_pip_pins(printed))
            case UvPipInstall():
                return tuple(_uv_pins(printed))

    def script(self, pins: Sequence[Pin]) -> str:
        """Return the script that installs exactly `pins`; for pip and uv they lie in the file `PINS`."""
        match self.install:
            case AptInstall():
                return _apt_script(self.install, pins)
            case PipInstall():
                return _python_script(f"{_pip(self.install)} --no-deps", pins)
            case UvPipInstall():
                return _python_script(f"{_uv(self.install)} --compile-bytecode --no-deps", pins)


def tool_of(install: Install) -> Tool:
    """Return the installer of an instruction."""
    return Tool(install=install)


def advice(exit_code: int, output: str) -> str:
    """Return what to do about an installation of pins that failed; empty where there is nothing special to do."""
    said = (code for code, texts in _SAID.items() if any(text in output for text in texts))
    return ADVICE.get(exit_code) or ADVICE.get(next(said, 0), "")


def requirement_files(pins: Iterable[Pin]) -> dict[str, str]:
    """Return the texts of `PINS` and `UNHASHED`: requirement lines with their hashes, and those that have none."""
    texts = {PINS: "", UNHASHED: ""}
    for pin in pins:
        line = f"{pin.name} @ {pin.url}" if pin.url else f"{pin.name}=={pin.version}"
        hashes = "".join(f" --hash={item}" for item in pin.hashes)
        texts[PINS if pin.hashes else UNHASHED] += f"{line}{hashes}\n"
    return texts


def constraints_text(pins: Iterable[Pin]) -> str:
    """Return a constraints file that keeps the versions of `pins`."""
    return "".join(f"{pin.name}=={pin.version}\n" for pin in pins if not pin.url)


# apt ---------------------------------------------------------------------------------------------------------------

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


# pip and uv --------------------------------------------------------------------------------------------------------


def _flags(install: PipInstall | UvPipInstall) -> list[str]:
    options = {
        "--find-links": install.find_links,
        "--index-url": install.index_url,
        "--extra-index-url": install.extra_index_url,
    }
    return [f"{flag} {shlex.quote(value)}" for flag, value in options.items() if value is not None]


def _pip(install: PipInstall) -> str:
    parts = [install.executable, "install", *(["--upgrade"] if install.upgrade else []), *_flags(install)]
    parts += ["--pre"] if install.pre else []
    return " ".join([*parts, install.extra_options]).rstrip()


def _uv(install: UvPipInstall) -> str:
    parts = [f"{UV} pip install --python {_PYTHON}", *_flags(install)]
    parts += ["--prerelease allow"] if install.pre else []
    return " ".join([*parts, install.extra_options]).rstrip()


_PYTHON = '"$(command -v python || command -v python3)"'

_UV_RESOLVE = """\
plan=$({install} --dry-run {constraints} {wanted} 2>&1) || {{ status=$?; printf '%s\\n' "$plan" >&2; exit $status; }}
printf '%s\\n' "$plan" >&2
exact=$(printf '%s\\n' "$plan" | sed -n \\
  -e 's/^ [+~] \\([^ ]*\\)==[^ ]* (from \\(.*\\))$/\\1 @ \\2/p' \\
  -e 's/^ [+~] \\([^ ]*==[^ ]*\\)$/\\1/p')
[ -n "$exact" ] || exit 0
printf '%s\\n' "$exact" | {uv} pip compile - --python {python} {flags} \\
  --no-deps --generate-hashes --no-header --no-annotate --quiet
"""


def _uv_resolve(install: UvPipInstall, *, constrained: bool) -> str:
    wanted = [*(f"-r {shlex.quote(path)}" for path in install.remote_requirements()), shlex.join(install.packages)]
    return _UV_RESOLVE.format(
        install=_uv(install),
        constraints=f"-c {CONSTRAINTS}" if constrained else "",
        wanted=" ".join(wanted),
        uv=UV,
        python=_PYTHON,
        flags=" ".join([*_flags(install), "--prerelease allow"]),
    )


def _python_script(command: str, pins: Sequence[Pin]) -> str:
    hashed = f"{command} --require-hashes -r {PINS} || exit" if any(pin.hashes for pin in pins) else ""
    unhashed = f"{command} -r {UNHASHED} || exit" if any(not pin.hashes for pin in pins) else ""
    return "\n".join(line for line in (hashed, unhashed) if line) or ":"


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


_COMPILED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?\s*(==\s*(?P<version>[^\s;]+)|@\s*(?P<url>\S+))")


def _uv_pins(printed: str) -> Iterator[Pin]:
    for line in printed.replace("\\\n", " ").splitlines():
        match = _COMPILED.match(line)
        if match:
            yield Pin(
                name=normal_name(match["name"]),
                version=match["version"] or "",
                url=without_credentials(match["url"]) if match["url"] else "",
                hashes=tuple(sorted(re.findall(r"--hash=(\S+)", line))),
            )
