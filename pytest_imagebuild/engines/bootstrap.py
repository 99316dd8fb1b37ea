"""Make the root file system of a base image from Debian's own packages, with mmdebstrap, where no registry answers.

A Debian suite has one Python, so the Python series chooses the suite: `python:3.11-slim-trixie` comes from bookworm.
The same reference and the same Debian index give the same bytes: mmdebstrap sorts the archive and clamps its times
(mmdebstrap(1), SOURCE_DATE_EPOCH), bytecode is checked by hash (PEP 552), and the last hook removes what tells of the
machine that it ran on. It runs as root, or as an ordinary user who has subordinate ids (subuid(5)).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_imagebuild.engines.configuration import PATH
from pytest_imagebuild.engines.mmdebstrap import Mmdebstrap, find_mmdebstrap
from pytest_imagebuild.errors import BaseImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["bootstrap", "command_of", "suite_for", "supports"]

_PREFIX = r"(?:(?:docker\.io/)?library/)?"
_PYTHON = re.compile(_PREFIX + r"python:(?P<series>3\.\d+)(?:\.\d+)?-slim(?:-[a-z]+)?")
_DEBIAN = re.compile(_PREFIX + r"debian:(?P<release>[a-z]+|\d+(?:\.\d+)?)(?:-slim)?")

_SUITE_OF_SERIES = {"3.9": "bullseye", "3.11": "bookworm", "3.13": "trixie", "3.14": "forky"}
_SUITE_OF_VERSION = {"11": "bullseye", "12": "bookworm", "13": "trixie", "14": "forky", "latest": "stable"}
_SUITES = (*_SUITE_OF_SERIES.values(), "stable")

_MIRROR = "http://deb.debian.org"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_DEBIAN_ARCHITECTURES = {"386": "i386", "arm/v5": "armel", "arm/v7": "armhf", "arm64/v8": "arm64", "ppc64le": "ppc64el"}
_PACKAGES = ("ca-certificates", "netbase", "tzdata")

# Not python3-pip: `pip install --upgrade pip wheel` cannot replace packages that dpkg owns ("no RECORD file"). The
# wheel that python3-venv brings is installed below /usr/local instead, as it is in the official image.
_PYTHON_PACKAGES = ("python3", "python3-venv")

# What `-slim` images leave out (debuerreotype, `.slimify-excludes`). dpkg heeds it on later upgrades as well.
_SLIM = (
    *(f"path-exclude=/usr/share/{name}/*" for name in ("doc", "groff", "info", "linda", "lintian", "locale", "man")),
    "path-include=/usr/share/doc/*/copyright",
    "path-include=/usr/share/locale/locale.alias",
)
# The marker that keeps pip from installing as root (PEP 668).
_NO_MARKER = "path-exclude=/usr/lib/python3*/EXTERNALLY-MANAGED"

_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "PATH": PATH,
    "PYTHONHASHSEED": "0",
    # Any fixed time does; zip files, and so wheels, know none before 1980.
    "SOURCE_DATE_EPOCH": "1577836800",
}
_PASSED_ON = ("TMPDIR", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")

# No service starts when its package is installed (invoke-rc.d(8)).
_DENY_SERVICES = """
mkdir -p usr/sbin
printf '#!/bin/sh\\nexit 101\\n' > usr/sbin/policy-rc.d
chmod 755 usr/sbin/policy-rc.d
"""
# Settings as in the official images, under the same file names, because Dockerfile idioms edit those. No invoke-hooks
# of apt, as `docker-clean` has them: mmdebstrap's cleanup would run them on the host.
_SETTLE = """
mv etc/apt/sources.list.d/0000main.sources etc/apt/sources.list.d/debian.sources
if [ -e etc/dpkg/dpkg.cfg.d/99mmdebstrap ]; then mv etc/dpkg/dpkg.cfg.d/99mmdebstrap etc/dpkg/dpkg.cfg.d/docker; fi
echo force-unsafe-io > etc/dpkg/dpkg.cfg.d/docker-apt-speedup
echo 'Apt::AutoRemove::SuggestsImportant "false";' > etc/apt/apt.conf.d/docker-autoremove-suggests
echo 'Acquire::GzipIndexes "true";' > etc/apt/apt.conf.d/docker-gzip-indexes
echo 'Acquire::Languages "none";' > etc/apt/apt.conf.d/docker-no-languages
cat > etc/apt/apt.conf.d/docker-clean <<'END'
APT::Keep-Downloaded-Packages "false";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
END
"""
_ADD_PIP = """
ln -s /usr/bin/python3 usr/local/bin/python3
ln -s /usr/bin/python3 usr/local/bin/python
chroot . sh -euc '
    wheels=/usr/share/python-wheels
    # The official images have setuptools as long as the Python has distutils.
    if /usr/bin/python3 -W ignore -c "import distutils" 2> /dev/null; then old=setuptools; else old=; fi
    # setuptools is imported whenever Python starts, and would leave bytecode with a time in it.
    export PYTHONDONTWRITEBYTECODE=1
    PYTHONPATH=$(printf %s: $wheels/*.whl) /usr/bin/python3 -m pip \\
        install --isolated --no-index --no-cache-dir --no-compile --find-links $wheels pip $old
    /usr/bin/python3 -m compileall -q -f --invalidation-mode checked-hash /usr/local/lib/python3*
'
"""
# Python before 3.11 writes sets in hash order (bpo-37596), and the packages' scripts ignore PYTHONHASHSEED (`-E`).
_COMPILE_AGAIN = """
chroot . sh -euc '
    /usr/bin/python3 -m compileall -q -f -x lib2to3/tests --invalidation-mode checked-hash /usr/lib/python3*
'
"""
_FORGET_THE_HOST = """
: > etc/resolv.conf
echo localhost > etc/hostname
chmod 644 etc/resolv.conf etc/hostname
rm -rf root/.cache var/cache/ldconfig/aux-cache var/cache/apt/*.bin var/cache/debconf/*-old var/lib/dpkg/*-old
find var/log -type f -delete
"""

# mmdebstrap removes its folder when a signal reaches its whole process group and somebody reads its messages to the
# end. This sees to both: stdin is held open by our process and ends with it, however it ends. As root it would mount
# /proc and /sys in the host's mount namespace, where they could outlive it.
_SUPERVISE = r"""
trap : TERM
exec 3<&0 4> >(trap "" PIPE TERM; while IFS= read -r line; do printf "%s\n" "$line" >&2; done)
{ cat <&3; kill -TERM 0; } > /dev/null 2>&1 4>&- &
if [ "$(id -u)" = 0 ] && unshare --mount true 2> /dev/null; then set -- unshare --mount "$@"; fi
printf %s "$SOURCES" | "$@" 2>&4 3<&- 4>&-
status=$?
kill $!
exit $status
"""
# The scripts reach mmdebstrap by the environment: given as arguments, each would be printed with every error.
_SCRIPTS = {
    "DENY_SERVICES": _DENY_SERVICES,
    "SETTLE": _SETTLE,
    "ADD_PIP": _ADD_PIP,
    "COMPILE_AGAIN": _COMPILE_AGAIN,
    "FORGET_THE_HOST": _FORGET_THE_HOST,
}


def supports(reference: str) -> bool:
    """Tell whether `reference` has the form of a base image that Debian's packages can make.

    True also for a series or release that no known suite has; `suite_for` says so with an error.
    """
    return bool(_PYTHON.fullmatch(reference) or _DEBIAN.fullmatch(reference))


def suite_for(reference: str) -> str:
    """Return the Debian suite that `reference` is made from.

    Raises `BaseImageError` when the reference is not of a supported form or no suite has what it asks for.
    """
    if python := _PYTHON.fullmatch(reference):
        if suite := _SUITE_OF_SERIES.get(python["series"]):
            return suite
        series = ", ".join(f"{series} ({suite})" for series, suite in _SUITE_OF_SERIES.items())
        raise BaseImageError(
            f"{reference} cannot be bootstrapped: no Debian suite has Python {python['series']}. "
            f"Ask for one of {series}, or make a registry that has this image reachable."
        )
    if debian := _DEBIAN.fullmatch(reference):
        release = debian["release"]
        suite = _SUITE_OF_VERSION.get(release.partition(".")[0], release)
        if suite in _SUITES:
            return suite
        raise BaseImageError(
            f"{reference} cannot be bootstrapped: {release} is not a Debian release known here. "
            f"Ask for one of {', '.join(_SUITES)}, or make a registry that has this image reachable."
        )
    raise BaseImageError(
        f"{reference} cannot be bootstrapped: only python:3.N-slim[-CODENAME] and debian:RELEASE[-slim] can. "
        "Make a registry that has this image reachable."
    )


def command_of(reference: str) -> list[str]:
    """Return what a container of such an image runs, as the official one does."""
    return ["python3"] if "python:" in reference else ["bash"]


def bootstrap(
    reference: str,
    *,
    architecture: str,
    target: Path,
    output: Callable[[str], None],
    apt_options: Sequence[str] = (),
) -> None:
    """Write the root file system of `reference` as an uncompressed tar file at `target`.

    `architecture` is named as in an image index (`amd64`, `arm64`, `arm/v7`). `output` gets each line that mmdebstrap
    prints. `apt_options` are lines of apt.conf(5) that hold for this run and stay in the result. `target` appears
    whole or not at all. Raises `BaseImageError`.
    """
    recipe = _Recipe(reference=reference, architecture=architecture, apt_options=tuple(apt_options))
    sources = recipe.sources()
    as_root = os.geteuid() == 0
    tool = _tool(reference, target.parent / "mmdebstrap", as_root=as_root, output=output)
    command = recipe.command(tool, as_root=as_root)
    output(f"bootstrapping {reference} from Debian {suite_for(reference)}")
    with _appearing(target) as archive:
        # A mount point, without the device nodes in it, which an ordinary user could not unpack.
        entry = tarfile.TarInfo("./dev")
        entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, int(_ENVIRONMENT["SOURCE_DATE_EPOCH"])
        os.write(archive, entry.tobuf(tarfile.GNU_FORMAT))
        _run(command, tool, sources=sources, archive=archive, output=output, reference=reference)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Recipe:
    """What mmdebstrap is told for one reference."""

    reference: str
    architecture: str
    apt_options: tuple[str, ...] = ()

    @property
    def is_python(self) -> bool:
        return _PYTHON.fullmatch(self.reference) is not None

    def sources(self) -> str:
        """Return the apt sources of the result in deb822 form; the bootstrap itself uses them too."""
        suite = suite_for(self.reference)
        places = (("debian", f"{suite} {suite}-updates"), ("debian-security", f"{suite}-security"))
        return "\n".join(
            f"Types: deb\nURIs: {_MIRROR}/{place}\nSuites: {suites}\nComponents: main\nSigned-By: {_KEYRING}\n"
            for place, suites in places
        )

    def command(self, tool: Mmdebstrap, *, as_root: bool) -> list[str]:
        """Return the mmdebstrap call that reads `sources()` from stdin and writes the tar file to stdout."""
        suite = suite_for(self.reference)
        packages = (*_PACKAGES, *(_PYTHON_PACKAGES if self.is_python else ()))
        dpkg_options = (*(_SLIM if "-slim" in self.reference else ()), *((_NO_MARKER,) if self.is_python else ()))
        hooks = ["SETTLE", *(["ADD_PIP"] if self.is_python else []), "FORGET_THE_HOST"]
        if self.is_python and suite == "bullseye":
            hooks.insert(2, "COMPILE_AGAIN")
        # bookworm expects a merged /usr but does not make it; without the hook, usrmerge comes in, and perl with it.
        merge = (f"--hook-dir={tool.hooks / 'merged-usr'}",) if suite == "bookworm" else ()
        return [
            tool.program,
            f"--mode={'root' if as_root else 'unshare'}",
            "--variant=minbase",
            "--format=tar",
            "--skip=output/dev",
            "--skip=chroot/policy-rc.d",
            # Its look-up makes a folder for gpg that outlives a kill; the sources say which keyring signs them.
            "--skip=check/signed-by",
            "--verbose",
            f"--architectures={_DEBIAN_ARCHITECTURES.get(self.architecture, self.architecture)}",
            f"--include={','.join(packages)}",
            *(f"--aptopt={option}" for option in self.apt_options),
            *(f"--dpkgopt={option}" for option in dpkg_options),
            *merge,
            f"--setup-hook={_run_script('DENY_SERVICES')}",
            *(f"--customize-hook={_run_script(name)}" for name in hooks),
            suite,
            "-",
            "-",
        ]


def _run_script(name: str) -> str:
    """Return a hook that runs one of `_SCRIPTS` in the root of the new file system."""
    return f'cd "$1" && sh -euc "${name}"'


def _tool(reference: str, folder: Path, *, as_root: bool, output: Callable[[str], None]) -> Mmdebstrap:
    path = _ENVIRONMENT["PATH"]
    missing = ""
    if not _KEYRING.exists():
        missing, package = str(_KEYRING), "debian-archive-keyring"
    elif not as_root and shutil.which("newuidmap", path=path) is None:
        missing, package = "newuidmap", "uidmap"
    if missing:
        raise BaseImageError(
            f"{reference} was to be bootstrapped from Debian packages, but this machine has no {missing}. "
            f"Install it with: apt-get install {package}"
        )
    try:
        return find_mmdebstrap(folder, path=path, environment=_host() | _ENVIRONMENT, output=output)
    except BaseImageError as error:
        raise BaseImageError(f"{reference} was to be bootstrapped from Debian packages, but {error}") from error


def _host() -> dict[str, str]:
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


@contextmanager
def _appearing(target: Path) -> Iterator[int]:
    """Give a file that gets the name `target` when the block ends well, and vanishes otherwise, even on a kill."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # open(2), O_TMPFILE: the file has no name until it is linked.
        archive = os.open(target.parent, os.O_TMPFILE | os.O_WRONLY, 0o644)
    except OSError as error:
        raise BaseImageError(
            f"{target} cannot be written: {error.strerror}. Name a folder on a local disk that you may write to."
        ) from error
    try:
        yield archive
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
            whole = Path(folder, target.name)
            # With a folder descriptor Python calls linkat(2), which follows the link of /proc.
            os.link(f"/proc/self/fd/{archive}", whole, src_dir_fd=archive, follow_symlinks=True)
            whole.replace(target)
    finally:
        os.close(archive)


def _run(
    command: list[str], tool: Mmdebstrap, *, sources: str, archive: int, output: Callable[[str], None], reference: str
) -> None:
    environment = _host() | _ENVIRONMENT | _SCRIPTS | {"SOURCES": sources, "PATH": tool.path(_ENVIRONMENT["PATH"])}
    last_lines: deque[str] = deque(maxlen=20)
    with subprocess.Popen(
        ["bash", "-c", _SUPERVISE, "bootstrap", *command],
        stdin=subprocess.PIPE,
        stdout=archive,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        errors="replace",
        umask=0o022,
        start_new_session=True,
    ) as process:
        for line in process.stderr or ():
            last_lines.append(line.rstrip())
            output(last_lines[-1])
    if process.returncode != 0:
        found = "\n".join(f"  {line}" for line in last_lines)
        raise BaseImageError(
            f"{reference} could not be bootstrapped from Debian {suite_for(reference)}: mmdebstrap exited with "
            f"{process.returncode}. Check that {_MIRROR} answers, or make a registry that has this image "
            f"reachable. The end of its output:\n{found}"
        )
