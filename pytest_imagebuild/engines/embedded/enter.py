"""Run a program inside a container that runs: `enter.py PID CONFIG`. A process of its own, of the standard library.

`PID` is the first process inside, `CONFIG` a JSON object, or the number of an open file that holds it: `user` (true
for a namespace of an ordinary user), `keep`
(numbers of the capabilities that stay), and one of these:

    command     a list to execute, with `environment`, `workdir`, and, for another user than root, `ids`: a list of
                a user, a group and further groups
    connect     a port: for each byte that comes on standard input, a Unix socket, a connection to it is handed over
    write       a path, with `mode`: standard input is written to that file
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
from pathlib import Path

_KINDS = (("user", 0x10000000), ("mnt", 0x00020000), ("pid", 0x20000000), ("net", 0x40000000), ("ipc", 0x08000000))
_UTS = ("uts", 0x04000000)
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_PDEATHSIG = 1
_CAP_VERSION = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Enter the namespaces of a process and do what the configuration says."""
    pid, config = int(sys.argv[1]), json.loads(_config(sys.argv[2]))
    # Loaded now: afterwards the library is out of reach.
    "".encode("idna")
    _call("prctl", _PR_SET_PDEATHSIG, 9, 0, 0, 0)
    root = os.open(f"/proc/{pid}/root", os.O_PATH)
    files = [
        (os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY), number)
        for kind, number in (*_KINDS, _UTS)
        # One that it shares with this process, as the network of the machine, may be entered by nobody but root.
        if not Path(f"/proc/{pid}/ns/{kind}").samefile(f"/proc/self/ns/{kind}") and (kind != "user" or config["user"])
    ]
    for file, number in files:
        _call("setns", file, number)
        os.close(file)
    os.fchdir(root)
    os.chroot(".")
    os.close(root)
    if "command" not in config:
        _drop(config["keep"])
        if "connect" in config:
            _hand_over(config["connect"])
        else:
            _write(config["write"], config["mode"])
        return
    # The pid namespace holds for children.
    child = os.fork()
    if child == 0:
        _call("prctl", _PR_SET_PDEATHSIG, 9, 0, 0, 0)
        _drop(config["keep"])
        os.chdir(config["workdir"])
        if "ids" in config:
            uid, gid, *groups = config["ids"]
            os.setgroups(groups)
            os.setgid(gid)
            os.setuid(uid)
        command, environment = config["command"], config["environment"]
        os.environ["PATH"] = environment.get("PATH", "")
        try:
            os.execvpe(command[0], command, environment)  # noqa: S606
        except OSError as error:
            sys.stderr.write(f"{command[0]}: {error.strerror}\n")
            os._exit(127 if isinstance(error, FileNotFoundError) else 126)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    sys.exit(128 - code if code < 0 else code)


def _config(given: str) -> str:
    if not given.isdecimal():
        return given
    # What must be in no list of processes.
    with os.fdopen(int(given), encoding="utf-8") as file:
        return file.read()


def _write(path: str, mode: int) -> None:
    try:
        Path(path).parent.mkdir(0o755, parents=True, exist_ok=True)
        with Path(path).open("wb") as file:
            os.fchmod(file.fileno(), mode)
            while data := os.read(0, 1 << 20):
                file.write(data)
    except OSError as error:
        sys.exit(f"{path}: {error.strerror}")


def _hand_over(port: int) -> None:
    asker = socket.socket(fileno=0)
    while asker.recv(1):
        try:
            made = socket.create_connection(("127.0.0.1", port), 10)
        except OSError:
            asker.send(b"n")
            continue
        socket.send_fds(asker, [b"y"], [made.fileno()])
        made.close()


def _drop(keep: list[int]) -> None:
    for number in range(64):
        if number not in keep:
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    mask = sum(1 << number for number in keep)
    header = (ctypes.c_uint32 * 2)(_CAP_VERSION, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    _call("capset", header, (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0))
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        sys.stderr.write(f"{name}: {os.strerror(number)}\n")
        sys.exit(125)


if __name__ == "__main__":
    main()
