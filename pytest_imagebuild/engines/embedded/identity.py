"""Whom of this machine the root of a container is, and what bubblewrap is told of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["PYTHON", "Identity", "own_identity"]

PYTHON = (sys.executable, "-I", "-S")
"""Runs a program of the standard library alone."""


class Identity(NamedTuple):
    """`options` go to bubblewrap, `python` runs a program as that root; both inherit the open `files`.

    `user_namespace` says that root is an ordinary user of this machine. With `single`, no other id exists in a
    container, and what needs one is said to have worked.
    """

    options: tuple[str, ...] = ()
    python: tuple[str, ...] = PYTHON
    files: Sequence[int] = ()
    user_namespace: bool = False
    single: bool = False


def own_identity() -> Identity:
    """Return root where this process is root, else a root that is this user alone."""
    if os.geteuid() == 0:
        return Identity()
    return Identity(options=("--unshare-user", "--uid", "0", "--gid", "0"), user_namespace=True, single=True)
