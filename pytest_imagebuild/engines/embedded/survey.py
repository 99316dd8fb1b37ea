"""A digest of what a folder lists, to notice damage. Runs as a process of its own too, on the standard library alone.

Names, kinds, modes, sizes and times of change are taken in, contents are not read: what a crash, a full disk or a
stray command does to a tree shows in them.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys

__all__ = ["survey", "survey_folders"]


def survey(folder: str) -> tuple[str, int]:
    """Return the digest of a folder, and the bytes on disk that it holds; hard links count once."""
    return _survey(folder, {})


def survey_folders(folder: str) -> tuple[str, dict[str, int]]:
    """Return the digest of a folder, and when its folders were changed last, in nanoseconds, by their paths in it."""
    changed = {b".": os.lstat(folder).st_ctime_ns} if os.path.isdir(folder) else {}  # noqa: PTH112 - a hot program
    digest, _ = _survey(folder, changed)
    return digest, {os.fsdecode(path): time for path, time in changed.items()}


def _survey(folder: str, changed: dict[bytes, int]) -> tuple[str, int]:
    digest = hashlib.sha256()
    size = 0
    linked: set[int] = set()
    waiting = [(os.fsencode(folder), b"")]
    while waiting:
        at, prefix = waiting.pop()
        try:
            with os.scandir(at) as listing:
                entries = sorted([(entry.name, entry.stat(follow_symlinks=False)) for entry in listing])
        except OSError as error:
            digest.update(b"%b cannot be read: %d\n" % (prefix, error.errno or 0))
            continue
        lines = []
        for name, status in entries:
            mode = status.st_mode
            lines.append(b"%b %o %d %d %d" % (name, mode, status.st_size, status.st_mtime_ns, status.st_rdev))
            if status.st_nlink == 1 or stat.S_ISDIR(mode):
                size += status.st_blocks
            elif status.st_ino not in linked:
                linked.add(status.st_ino)
                size += status.st_blocks
            if stat.S_ISDIR(mode):
                waiting.append((at + b"/" + name, prefix + name + b"/"))
                changed[prefix + name] = status.st_ctime_ns
        digest.update(prefix + b"\0" + b"\0".join(lines))
    return digest.hexdigest(), size * 512


if __name__ == "__main__":
    json.dump([survey_folders(folder) for folder in json.load(sys.stdin)], sys.stdout)
