"""What is there before the first conftest file is spared the collections of garbage: pytest, and its plugins.

All of it stays to the end, and the last collections, those of pytest and those of Python, look at each object: that
takes longer than many a test. Only a run with images has it so. What conftest files and tests make is collected as
ever.
"""

from __future__ import annotations

import gc
import sys
from functools import partial
from pathlib import Path

import pytest

__all__ = ["freeze", "thaw"]

_FROZEN: pytest.StashKey[bool] = pytest.StashKey()
_PROGRAMS = {"pytest", "py.test", "pytest.__main__"}


def freeze(config: pytest.Config) -> None:
    """Spare what is there now, unless somebody else in this process does so, or this Python knows no such thing."""
    if hasattr(gc, "freeze") and not gc.get_freeze_count():
        gc.freeze()
        config.stash[_FROZEN] = True
        # What is added first is done last: after the collections of pytest.
        config.add_cleanup(partial(_end, config))


def thaw(config: pytest.Config) -> None:
    """Undo it."""
    if config.stash.get(_FROZEN, False):
        config.stash[_FROZEN] = False
        gc.unfreeze()


def _end(config: pytest.Config) -> None:
    """Undo it where the process goes on after the run."""
    if not _is_the_program(config):
        thaw(config)


def _is_the_program(config: pytest.Config) -> bool:
    """Say whether this process was started to be this run of pytest, and nothing else."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    name = spec.name if spec is not None else Path(sys.argv[0]).stem
    return name in _PROGRAMS and [*config.invocation_params.args] == sys.argv[1:]
