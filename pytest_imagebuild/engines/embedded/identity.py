"""Whom of this machine the root of a container is, and what bubblewrap is told of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Identity", "one_id"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """`options` go to bubblewrap, which inherits the open `files`.

    `user_namespace` says that root is an ordinary user of this machine. With `single`, no other id exists in a
    container, and what needs one is said to have worked.
    """

    options: tuple[str, ...] = ()
    files: Sequence[int] = ()
    user_namespace: bool = False
    single: bool = False


def one_id() -> Identity:
    """Return root where this process is root, else a root that is this user alone."""
    if os.geteuid() == 0:
        return Identity()
    return Identity(options=("--unshare-user", "--uid", "0", "--gid", "0"), user_namespace=True, single=True)
