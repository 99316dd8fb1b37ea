"""A system call filter for containers that have one user id only: what needs a second one is said to have worked.

`chown` to a user whom the namespace does not map fails, and with it dpkg, tar and most installers. The filter answers
those calls with success and does nothing, as Charliecloud's `--force=seccomp` does; files stay owned by root.
"""

from __future__ import annotations

import platform
import stat
import struct
from typing import NamedTuple

__all__ = ["program"]

_LOAD, _EQUAL, _MASK, _RETURN = 0x20, 0x15, 0x54, 0x06
_ALLOW, _SUCCEED = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO with errno 0
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_DEVICES = (stat.S_IFCHR, stat.S_IFBLK)


class _Calls(NamedTuple):
    """Numbers of system calls (asm/unistd.h). `nodes` maps those that make nodes to the place of their mode."""

    audit: int
    owners: tuple[int, ...]
    identities: tuple[int, ...]
    nodes: dict[int, int]


_CALLS = {
    # chown fchown lchown fchownat setgroups | setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid
    "x86_64": _Calls(
        audit=0xC000003E,
        owners=(92, 93, 94, 260, 116),
        identities=(105, 106, 113, 114, 117, 119, 122, 123),
        nodes={133: 1, 259: 2},
    ),
    "aarch64": _Calls(
        audit=0xC00000B7,
        owners=(54, 55, 159),
        identities=(143, 144, 145, 146, 147, 149, 151, 152),
        nodes={33: 2},
    ),
}


def program(*, building: bool, machine: str = "") -> bytes | None:
    """Return the filter in the form that `bwrap --seccomp` reads; None for a machine whose calls are not known.

    With `building`, changes of the own user are said to have worked too: scripts of packages call `su` and the like. A
    test is told the truth.
    """
    calls = _CALLS.get(machine or platform.machine())
    if calls is None:
        return None
    pretended = (*calls.owners, *(calls.identities if building else ()))
    code = [_load(_ARCHITECTURE), _skip_unless(calls.audit, 1), _skip(1), _return(_ALLOW), _load(_NUMBER)]
    for number in pretended:
        code += [_skip_unless(number, 1), _return(_SUCCEED)]
    for number, place in calls.nodes.items():
        body = [_load(_ARGUMENTS + 8 * place), struct.pack("=HBBI", _MASK, 0, 0, 0o170000)]
        for kind in _DEVICES:
            body += [_skip_unless(kind, 1), _return(_SUCCEED)]
        body.append(_return(_ALLOW))
        code += [_skip_unless(number, len(body)), *body]
    return b"".join([*code, _return(_ALLOW)])


def _load(offset: int) -> bytes:
    return struct.pack("=HBBI", _LOAD, 0, 0, offset)


def _skip_unless(value: int, count: int) -> bytes:
    return struct.pack("=HBBI", _EQUAL, 0, count, value)


def _skip(count: int) -> bytes:
    return struct.pack("=HBBI", 0x05, 0, 0, count)


def _return(value: int) -> bytes:
    return struct.pack("=HBBI", _RETURN, 0, 0, value)
