"""The subordinate ids that a user of this machine may use (subuid(5), newuidmap(1))."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["NEEDED", "IdMap", "NoSubordinateIds", "id_map", "map_ids"]

NEEDED = 65535
"""How many make a container's ids complete, with this user as its root: those of images are below 65536."""
IdMap = tuple[tuple[int, int, int], ...]
"""Ranges of ids: the first inside, the first on this machine, and how many."""
_SECONDS = 20


class NoSubordinateIds(Exception):
    """Why there are none, and what helps."""

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.found = found
        self.advice = advice


def id_map(kind: str) -> IdMap:
    """Return the ids of a container by what this user was given; `kind` is `uid` or `gid`. Raises NoSubordinateIds."""
    user, own = _user(), os.geteuid() if kind == "uid" else os.getegid()
    ranges = [(0, own, 1)]
    inside = 1
    for first, count in _given(Path(f"/etc/sub{kind}"), user):
        count = min(count, NEEDED + 1 - inside)  # noqa: PLW2901
        if count > 0:
            ranges.append((inside, first, count))
            inside += count
    if inside <= NEEDED:
        raise NoSubordinateIds(
            f"/etc/sub{kind} gives {user} {inside - 1 or 'no'} ids, and {NEEDED} are needed",
            f"`sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}`",
        )
    return tuple(ranges)


def map_ids(pid: int, uids: IdMap, gids: IdMap) -> None:
    """Give the user namespace of a process its ids. Raises NoSubordinateIds where that is refused."""
    running = [(program, _start(program, pid, ids)) for program, ids in (("newuidmap", uids), ("newgidmap", gids))]
    refused = []
    for program, process in running:
        with process:
            try:
                _, said = process.communicate(timeout=_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                said = f"it did not end in {_SECONDS} s"
        if process.returncode:
            refused.append(f"{program} refuses: {' '.join(said.split()) or f'exit code {process.returncode}'}")
    if refused:
        raise NoSubordinateIds("; ".join(refused), "`sudo apt-get install --reinstall uidmap`")


def _start(program: str, pid: int, ids: IdMap) -> subprocess.Popen[str]:
    path = shutil.which(program)
    if path is None:
        raise NoSubordinateIds(f"there is no {program}", "`sudo apt-get install uidmap`")
    command = [path, str(pid), *(str(number) for part in ids for number in part)]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )


def _given(file: Path, user: str) -> Iterator[tuple[int, int]]:
    try:
        lines: Sequence[str] = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        name, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if name in (user, str(os.geteuid())) and first.isdecimal() and count.strip().isdecimal():
            yield int(first), int(count)


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
