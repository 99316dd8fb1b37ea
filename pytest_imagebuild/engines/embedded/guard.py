"""Run a command, and end all that came of it with the process that asked: `guard.py PARENT COMMAND...`.

bubblewrap asks the kernel to end it with its parent, but its first process inside a container asks only after it has
mounted everything; where both parents are killed before that, it goes on alone. This process inherits it, and kills it.
Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SIGNALS = (signal.SIGTERM, signal.SIGCHLD)


def main() -> None:
    """Run the command until it has ended, or the parent has, or SIGTERM asks for the end."""
    import ctypes  # noqa: PLC0415 - the engine wants to know where this program is

    parent, command = int(sys.argv[1]), sys.argv[2:]
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if os.getppid() != parent:
        return
    # Python ignores these two, which a command inherits.
    ignored = (signal.SIGPIPE, signal.SIGXFSZ)
    child = os.posix_spawn(command[0], command, os.environ, setsigmask=(), setsigdef=ignored)
    while signal.sigwait(_SIGNALS) == signal.SIGCHLD:
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended == child:
            _end_children()
            _end_as(os.waitstatus_to_exitcode(status))
    _end_children()
    _end_as(-signal.SIGKILL)


def _end_children() -> None:
    """Kill every child, and those that become children as their parents end."""
    with contextlib.suppress(ChildProcessError):
        while True:
            for child in _children():
                os.kill(child, signal.SIGKILL)
            os.waitpid(-1, 0)


def _children() -> Iterator[int]:
    own = os.getpid()
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            if int(Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()[1]) == own:
                yield int(entry.name)


def _end_as(code: int) -> None:
    """End with an exit code, or by a signal where it is below zero."""
    if code < 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        os.kill(os.getpid(), -code)
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
