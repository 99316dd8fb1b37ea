"""Works on files of subordinate ids, as root of a user namespace: `agent.py CONTROL`. A process of its own.

It imports the standard library, and what it needs of this package by path. `CONTROL` is the number of a socket. The
agent makes a user namespace and says so with a byte; once it is told that ids are mapped, it hands over the namespace.
From then on, each byte that comes brings a socket, on which a thread answers requests (`calls.py`). The end of the
control socket ends the agent.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

_NEW_USER = 0x10000000
_PR_SET_PDEATHSIG = 1
READY, MAPPED, NAMESPACE, CALLS = b"r", b"m", b"n", b"c"


def main() -> None:
    """Serve until the one who started this is gone."""
    import ctypes  # noqa: PLC0415 - the engine wants to know where this program is

    control = socket.socket(fileno=int(sys.argv[1]))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_USER) != 0:
        control.sendall(f"no user namespace can be made: {os.strerror(ctypes.get_errno())}".encode())
        return
    control.sendall(READY)
    # While the ids are mapped.
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    from pytest_imagebuild.engines.embedded.calls import answer  # noqa: PLC0415
    from pytest_imagebuild.engines.embedded.files import OwnFiles  # noqa: PLC0415

    if control.recv(1) != MAPPED:
        return
    libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)
    # It changes nothing, and tells whether root of this namespace is allowed anything: AppArmor may leave it nothing.
    os.chroot("/")
    os.umask(0o022)
    namespace = os.open("/proc/self/ns/user", os.O_RDONLY)
    socket.send_fds(control, [NAMESPACE], [namespace])
    files = OwnFiles(keep_owners=True)
    while True:
        said, passed, _, _ = socket.recv_fds(control, 1, 1)
        if not said:
            # No thread must go on with what nobody waits for.
            os._exit(0)
        threading.Thread(target=_serve, args=(socket.socket(fileno=passed[0]), files, answer), daemon=True).start()


def _serve(asker: socket.socket, files: Any, answer: Any) -> None:
    with asker:
        while answer(asker, files):
            pass


if __name__ == "__main__":
    main()
