"""Remember which trees were found sound, so that not every run has to look at each of their files.

A tree is taken for sound while the machine has not been booted since, the look is not an hour old, and none of its
folders has changed: what is removed, added, renamed or replaced changes its folder. What is written into a file in
place, or a changed mode of one, shows in the next look only.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress

from pytest_imagebuild.engines.embedded.store import Store, Tree
from pytest_imagebuild.engines.embedded.tried import boot
from pytest_imagebuild.engines.replacing import replace_text

__all__ = ["Looked"]

AGE_SECONDS = 3600.0


class Looked:
    """The notes of one store: a file for each tree."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._boot = boot()

    def is_sound(self, tree: Tree) -> bool:
        """Say whether a tree need not be looked at."""
        try:
            note = json.loads((self._store.looked / tree.id).read_bytes())
            if (note["boot"], note["seal"]) != (self._boot, tree.seal) or not 0 <= _now() - note["time"] < AGE_SECONDS:
                return False
            root = f"{self._store.trees / tree.id}/"
            # A hot loop: a base image has a thousand folders.
            return all(os.lstat(root + path).st_ctime_ns == changed for path, changed in note["folders"].items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    def note(self, tree: Tree, folders: Mapping[str, int], begun: float) -> None:
        """Note that a look that began at a time of `now()` found a tree sound, and when its folders were changed."""
        root = f"{self._store.trees / tree.id}/"
        text = json.dumps(
            {
                "boot": self._boot,
                "seal": tree.seal,
                "time": begun,
                "folders": {path: changed for path, changed in folders.items() if _is_reached(root + path)},
            }
        )
        # Without the note, the next run looks again.
        with suppress(OSError):
            self._store.looked.mkdir(mode=0o700, exist_ok=True)
            replace_text(self._store.looked / tree.id, text)

    @staticmethod
    def now() -> float:
        """Return the time by a clock that nobody sets."""
        return _now()


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _is_reached(path: str) -> bool:
    """Say whether this process gets at a folder: those of subordinate ids may be closed to it."""
    try:
        os.lstat(path)
    except PermissionError:
        return False
    except OSError:
        return True
    return True
