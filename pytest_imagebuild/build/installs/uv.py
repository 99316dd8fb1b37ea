"""Python packages with uv."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_imagebuild.build.installs.files import CONSTRAINTS, install_pins
from pytest_imagebuild.image.steps.uv_pip import UvPipInstall
from pytest_imagebuild.image.wording import logins, without_credentials
from pytest_imagebuild.lockfile import Pin, normal_name

__all__ = ["PYTHON", "UV", "UvTool", "uv_pins"]

UV = "/.uv/uv"
"""Where the uv of the builder version is lent to a step."""


@dataclass(frozen=True, slots=True)
class UvTool:
    """uv, which says what it would install, then compiles that with its hashes."""

    install: UvPipInstall

    @property
    def name(self) -> str:
        """The name in the lockfile."""
        return "uv"

    @property
    def request(self) -> tuple[str, ...]:
        """What the definition asks for, without passwords."""
        packages = tuple(without_credentials(package) for package in self.install.packages)
        return (*packages, *(f"-r {path}" for path in self.install.remote_requirements()))

    def resolve(self, *, constrained: bool, asked: Sequence[str] = ()) -> str:
        """Return the script that prints what would be installed. `asked` are the texts that ask for packages."""
        return _uv_resolve(self.install, asked, constrained=constrained)

    def parse(self, printed: str) -> tuple[Pin, ...]:
        """Read the pins from a compiled requirements file."""
        return tuple(uv_pins(printed))

    def script(self, pins: Sequence[Pin]) -> str:
        """Return the script that installs exactly `pins`."""
        return install_pins(f"{_uv(self.install)} --compile-bytecode --no-deps", pins)


def _uv(install: UvPipInstall) -> str:
    parts = [f"{UV} pip install --python {PYTHON}", *install.options.index_flags()]
    parts += ["--prerelease allow"] if install.options.pre else []
    return " ".join([*parts, install.options.extra_options]).rstrip()


PYTHON = '"$(command -v python || command -v python3)"'

_UV_RESOLVE = """\
plan=$({install} --dry-run {constraints} {wanted} 2>&1) || {{ status=$?; printf '%s\\n' "$plan" >&2; exit $status; }}
printf '%s\\n' "$plan" >&2
exact=$(printf '%s\\n' "$plan" | sed -n \\
  -e 's/^ [+~] \\([^ ]*\\)==[^ ]* (from \\(.*\\))$/\\1 @ \\2/p' \\
  -e 's/^ [+~] \\([^ ]* @ .*\\)$/\\1/p' \\
  -e 's/^ [+~] \\([^ ]*==[^ ]*\\)$/\\1/p'{logins})
[ -n "$exact" ] || exit 0
printf '%s\\n' "$exact" | {uv} pip compile - --python {python} {flags} \\
  --no-deps --generate-hashes --no-header --no-annotate --quiet
"""


def _uv_resolve(install: UvPipInstall, asked: Sequence[str], *, constrained: bool) -> str:
    wanted = [*(f"-r {shlex.quote(path)}" for path in install.remote_requirements()), shlex.join(install.packages)]
    return _UV_RESOLVE.format(
        install=_uv(install),
        constraints=f"-c {CONSTRAINTS}" if constrained else "",
        wanted=" ".join(wanted),
        logins=_uv_logins(asked),
        uv=UV,
        python=PYTHON,
        flags=" ".join([*install.options.index_flags(), "--prerelease allow"]),
    )


_COMPILED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?\s*(==\s*(?P<version>[^\s;]+)|@\s*(?P<url>\S+))")


def _uv_logins(asked: Sequence[str]) -> str:
    """Return the stage that puts back the logins of addresses, which uv shows with stars in the place of passwords."""
    changes = []
    for scheme, login, place in dict.fromkeys(logins(asked)):
        shown, meant = (re.sub(r"([.*\[\]^$\\#&])", r"\\\1", text) for text in (place, login + place))
        changes.append(f"-e {shlex.quote(f's#{scheme}[^/@ ]*@{shown}#{scheme}{meant}#')}")
    return f" | sed {' '.join(changes)}" if changes else ""


def uv_pins(printed: str) -> Iterator[Pin]:
    """Yield the pins of a compiled requirements file."""
    for line in printed.replace("\\\n", " ").splitlines():
        match = _COMPILED.match(line)
        if match:
            yield Pin(
                name=normal_name(match["name"]),
                version=match["version"] or "",
                url=without_credentials(match["url"]) if match["url"] else "",
                hashes=tuple(sorted(re.findall(r"--hash=(\S+)", line))),
            )
