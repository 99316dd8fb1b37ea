"""Remove folders, and tell what they hold."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import Path

from pytest_imagebuild.engines.embedded.survey import survey

__all__ = ["disk_usage", "remove_tree"]


def remove_tree(folder: Path) -> None:
    """Remove a folder whatever the modes in it are. One that is gone is as good."""

    def open_up(_: object, path: str, error: BaseException) -> None:
        if isinstance(error, FileNotFoundError):
            return
        parent = os.path.dirname(path)  # noqa: PTH120
        for closed in (parent, path):
            with contextlib.suppress(OSError):
                if stat.S_ISDIR(os.lstat(closed).st_mode):
                    os.chmod(closed, 0o700)  # noqa: PTH101
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108

    for _ in range(3):
        shutil.rmtree(folder, onerror=lambda call, path, info: open_up(call, path, info[1]))
        if not os.path.lexists(folder):
            return


def disk_usage(path: Path) -> int:
    """Return the bytes that a file or a folder holds on disk."""
    if path.is_dir() and not path.is_symlink():
        return survey(str(path))[1]
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:
        return 0
