"""A pristine file system for a copy of this process: an overlay mount that is thrown away with the copy.

A worker that has imported and collected everything can so run each test by itself for the price of a fork, not of a
container. It needs a user namespace, and an engine that lays the image where nothing is mounted on it: the kernel
refuses to make a lower layer of what hides other mounts. Runs in the container: imports the standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
import shutil
import signal
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from pytest_imagebuild.worker.places import IMAGE, SCRATCH

__all__ = ["Copies"]

_NEWNS, _NEWIPC, _NEWUSER = 0x00020000, 0x08000000, 0x10000000
_BIND, _MOVE, _REC, _PRIVATE = 4096, 8192, 16384, 1 << 18
_NOSUID, _NODEV = 2, 4
_SIGACTION_SIZE = 512
"""More than any C library's `struct sigaction` has."""

_CAPBSET_DROP, _SUBREAPER = 24, 36
_CAPABILITY_VERSION = 0x20080522
_MAP, _FAILED, _READY, _THROUGH = b"m", b"f", b"r", b"t"
"""What a copy says of itself."""


class Copies:
    """Runs calls in copies of this process. `possible` says whether each can have a file system of its own here."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._current = 0
        self._capabilities = _capabilities()
        self._mounts = tuple(_mounts())

    def possible(self) -> bool:
        """Say whether copies work: by one that does nothing. Threads and child processes cannot be copied."""
        if not (IMAGE.is_mount() and SCRATCH.is_mount()):
            return False
        if len(os.listdir("/proc/self/task")) > 1 or _has_children():  # noqa: PTH208
            return False
        try:
            self._libc.prctl(_SUBREAPER, 1, 0, 0, 0)
            # What a collection of garbage writes to, the kernel would have to copy in every copy.
            gc.freeze()
            return self.run(lambda: None, signal.SIGUSR1) is None
        except (OSError, AttributeError):
            return False

    def run(self, call: Callable[[], None], forwarded: int) -> int | None:
        """Run `call` in a copy, and end what it leaves running.

        Returns None if it was through, else how the copy ended, as `os.waitpid` tells it. `forwarded` is a signal that
        is for the copy.
        """
        (said, say), (heard, hear) = os.pipe(), os.pipe()
        folder = tempfile.mkdtemp(dir=SCRATCH)
        # Python does not know a handler in C, as that of faulthandler is, and could not put it back.
        before = ctypes.create_string_buffer(_SIGACTION_SIZE)
        self._libc.sigaction(forwarded, None, before)
        self._current = os.fork()
        if self._current == 0:
            os.close(said)
            os.close(hear)
            self._be_copy(call, Path(folder), heard, say)
        os.close(say)
        os.close(heard)
        signal.signal(forwarded, self._forward)
        try:
            if (word := os.read(said, 1)) == _MAP:
                _map_ids(self._current)
                os.write(hear, _MAP)
                word = os.read(said, 1)
            problem = os.read(said, 4096).decode() if word == _FAILED else ""
            through = word == _READY and os.read(said, 1) == _THROUGH
            _, status = os.waitpid(self._current, 0)
        finally:
            os.close(said)
            os.close(hear)
            self._current = 0
            _end_children()
            shutil.rmtree(folder, ignore_errors=True)
            self._libc.sigaction(forwarded, before, None)
        if problem:
            raise OSError(problem)
        return None if through else status

    def _be_copy(self, call: Callable[[], None], folder: Path, heard: int, say: int) -> None:
        os.setsid()
        try:
            self._check(self._libc.unshare(_NEWUSER | _NEWNS | _NEWIPC), "unshare")
            os.write(say, _MAP)
            os.read(heard, 1)
            os.close(heard)
            self._change_root(folder)
            self._drop_capabilities()
        except OSError as error:
            os.write(say, _FAILED + str(error).encode()[:4096])
            os._exit(1)
        os.write(say, _READY)
        call()
        os.write(say, _THROUGH)
        os._exit(0)

    def _forward(self, number: int, _frame: object) -> None:
        if self._current:
            os.kill(self._current, number)

    def _change_root(self, folder: Path) -> None:
        """Put an overlay in the place of the root, with every other mount where it was."""
        cwd = Path.cwd()
        self._mount("none", "/", None, _REC | _PRIVATE)
        upper, work, root = folder / "upper", folder / "work", folder / "root"
        for each in (upper, work, root):
            each.mkdir()
        upper.chmod(stat.S_IMODE(Path("/").stat().st_mode))
        # Without `volatile`, the end of each copy would wait until the whole file system is on the disk.
        options = f"lowerdir={IMAGE},upperdir={upper},workdir={work},userxattr,volatile"
        self._mount("overlay", root, "overlay", 0, options)
        for place, is_file in self._mounts:
            there = root / place.relative_to("/")
            if is_file:
                # Not mounted again, so that a test can change it for itself; what is read-only may be large.
                shutil.copyfile(place, there)
            else:
                self._mount(place, there, None, _BIND | _REC)
        if (root / "dev/shm").is_dir():
            self._mount("tmpfs", root / "dev/shm", "tmpfs", _NOSUID | _NODEV, "mode=1777")
        if (root / "dev/mqueue").is_mount():
            self._mount("mqueue", root / "dev/mqueue", "mqueue", 0)
        os.chdir(root)
        self._mount(".", "/", None, _MOVE)
        os.chroot(".")
        os.chdir(cwd)

    def _drop_capabilities(self) -> None:
        """Give those back that came with the user namespace."""
        before = self._capabilities
        for number in range(64):
            if not before["CapBnd"] >> number & 1:
                self._libc.prctl(_CAPBSET_DROP, number, 0, 0, 0)
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
        sets = [before[name] >> shift & 0xFFFFFFFF for shift in (0, 32) for name in ("CapEff", "CapPrm", "CapInh")]
        self._check(self._libc.capset(header, (ctypes.c_uint32 * 6)(*sets)), "capset")

    def _mount(self, source: str | Path, target: str | Path, kind: str | None, flags: int, options: str = "") -> None:
        self._check(
            self._libc.mount(
                os.fsencode(source),
                os.fsencode(target),
                kind.encode() if kind else None,
                ctypes.c_ulong(flags),
                os.fsencode(options) or None,
            ),
            f"mount {source} on {target}",
        )

    def _check(self, result: int, what: str) -> None:
        if result:
            number = ctypes.get_errno()
            raise OSError(number, f"{what}: {os.strerror(number)}")


def _map_ids(child: int) -> None:
    """Let a child that is in a user namespace of its own have the ids that there are."""
    for name in ("uid_map", "gid_map"):
        lines = [line.split() for line in Path(f"/proc/self/{name}").read_text("ascii").splitlines()]
        text = "\n".join(f"{inside} {inside} {count}" for inside, _, count in lines)
        Path(f"/proc/{child}/{name}").write_text(text, "ascii")


def _mounts() -> Iterator[tuple[Path, bool]]:
    """Yield where a copy needs what is mounted, and whether it copies it. What is mounted in there comes with it."""
    seen = [IMAGE, SCRATCH]
    for line in Path("/proc/self/mountinfo").read_text("utf-8", errors="surrogateescape").splitlines():
        fields = line.split(" ")
        place = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4]))
        if place != Path("/") and not any(place == above or above in place.parents for above in seen):
            seen.append(place)
            yield place, place.is_file() and "ro" not in fields[5].split(",")


def _capabilities() -> dict[str, int]:
    lines = (line.split(":") for line in Path("/proc/self/status").read_text("ascii", errors="replace").splitlines())
    return {name: int(value, 16) for name, value in lines if name.startswith("Cap")}


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _end_children() -> None:
    """Kill what a test left running: its orphans become children of this process."""
    with contextlib.suppress(ChildProcessError):
        while True:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
            for child in _children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            os.waitpid(-1, 0)


def _children() -> list[int]:
    """Return the processes whose parent is this one."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                status = Path(entry.path, "stat").read_text("utf-8", errors="replace")
                if int(status.rpartition(")")[2].split()[1]) == os.getpid():
                    found.append(int(entry.name))
    return found
