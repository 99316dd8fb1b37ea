"""`Volume`: a folder that outlives containers, and the rules for where one is mounted.

Test modules make volumes inside containers too, so this says what a volume is and does nothing: the engine makes,
mounts and removes it.
"""

from __future__ import annotations

import itertools
import os
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING

from pytest_imagebuild.errors import DefinitionError, SourceLocation
from pytest_imagebuild.image.callers import callers_line

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Mounted", "Volume", "check_name", "mounted_at", "mounted_twice"]

Mounted = tuple[tuple[str, "Volume"], ...]
"""Canonical mount paths with what is mounted there, sorted by path."""

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,64}")
_RESERVED = ("/", "/root", "/tmp")  # noqa: S108 - a rule of the reference (2.8)
_KERNEL = ("/dev", "/proc", "/sys")
_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Volume:
    """A folder kept by the engine, which steps and tests mount with `volumes={"/path": volume}`.

    Make one with `Volume.from_name` or `Volume.ephemeral`. What is written there is seen at once by every container
    that has it mounted, is no part of a layer, and enters no layer key: a key holds the path and the name.
    """

    name: str
    """Empty for an ephemeral one."""
    create_if_missing: bool = field(default=False, metadata={"presentation": True})
    is_read_only: bool = False
    number: int = field(default=0, repr=False, metadata={"presentation": True})
    """Tells the ephemeral volumes of a process apart; 0 for a named one."""
    where: SourceLocation | None = field(default=None, compare=False, repr=False)

    @classmethod
    def from_name(
        cls,
        name: str,
        *,
        environment_name: str | None = None,  # noqa: ARG003 - there is one environment here
        create_if_missing: bool = False,
        version: int | None = None,
    ) -> Volume:
        """Name a volume that stays until `imagebuild volume rm`.

        Nothing is asked of the engine before the volume is needed. It is an error then if there is none of that name,
        unless `create_if_missing`. `environment_name` and `version` (1 or 2) mean nothing here and are taken so that
        definitions for Modal run unchanged. Raises DefinitionError for a name that is none.
        """
        where = callers_line()
        try:
            check_name(name)
        except ValueError as problem:
            message = f"Volume.from_name: {problem}"
            raise DefinitionError(message, where=where) from None
        if version not in (None, 1, 2):
            message = f"Volume.from_name: version must be 1 or 2, or left out, got {version!r}"
            raise DefinitionError(message, where=where)
        return cls(name=name, create_if_missing=bool(create_if_missing), where=where)

    @classmethod
    def ephemeral(cls, *, environment_name: str | None = None) -> Volume:  # noqa: ARG003 - as in `from_name`
        """Make a volume that is empty at the begin of a run, and gone after it.

        `with Volume.ephemeral() as volume:` works as well as a plain call; the end of the block ends nothing, because
        tests run after their module is read. Each call is a volume of its own. Each worker of xdist has its own, too.
        """
        return cls(name="", number=next(_numbers), where=callers_line())

    @property
    def is_ephemeral(self) -> bool:
        """Say whether it is gone after the run."""
        return not self.name

    def read_only(self) -> Volume:
        """Give the same volume for mounts that cannot write to it."""
        return replace(self, is_read_only=True)

    def with_mount_options(self, *, read_only: bool | None = None, sub_path: str | None = None) -> Volume:
        """Give the same volume with other options for mounts; None leaves one as it is.

        `sub_path` is refused with a DefinitionError: a volume is mounted whole.
        """
        if sub_path is not None:
            message = (
                f"Volume.with_mount_options: sub_path={sub_path!r} is not supported here: a volume is mounted whole. "
                "Leave it out, and use the folder below the mount path"
            )
            raise DefinitionError(message, where=callers_line())
        return self if read_only is None else replace(self, is_read_only=bool(read_only))

    def commit(self) -> None:
        """Do nothing: what a container writes is seen by all others at once. In Modal it makes writes last."""

    def reload(self) -> None:
        """Do nothing: a container sees at once what others write. In Modal it fetches their commits."""

    def __enter__(self) -> Self:
        if not self.is_ephemeral:
            message = f"Volume.from_name({self.name!r}) is not to be used with `with`: it outlives every block"
            raise DefinitionError(message, where=callers_line())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End nothing; see `ephemeral`."""

    def __repr__(self) -> str:
        made = "Volume.ephemeral()" if self.is_ephemeral else f"Volume.from_name({self.name!r})"
        return f"{made}.read_only()" if self.is_read_only else made


def check_name(name: object) -> None:
    """Raise ValueError, which says the rule, for what cannot name a volume."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in (".", ".."):
        message = f"the name of a volume has 1 to 64 characters, each a letter, a digit, '-', '_' or '.', got {name!r}"
        raise ValueError(message)


def mounted_at(volumes: object) -> Mounted:
    """Check a `volumes=` argument by the rules of the reference (2.8); raise ValueError, which says what is wrong.

    Beyond those, no volume is mounted inside of another, or on what is the kernel's.
    """
    if volumes is None:
        return ()
    if not isinstance(volumes, Mapping):
        message = f"volumes must be a dict of mount paths and Volumes, got {volumes!r} ({type(volumes).__name__})"
        raise ValueError(message)  # noqa: TRY004 - who calls this makes an error of his own of it
    mounted: dict[str, Volume] = {}
    for given, volume in volumes.items():
        path = _mount_path(given)
        if not isinstance(volume, Volume):
            message = f"it only supports volumes that are Volume, got {volume!r} ({type(volume).__name__}) for {path!r}"
            raise ValueError(message)  # noqa: TRY004
        for other, one in mounted.items():
            _check_beside(path, volume, other, one)
        mounted[path] = volume
    return tuple(sorted(mounted.items()))


def mounted_twice(volumes: Mounted) -> str | None:
    """Say which volume has two handles that are mounted; None where each is mounted once."""
    seen: dict[tuple[str, int], str] = {}
    for path, volume in volumes:
        other = seen.setdefault((volume.name, volume.number), path)
        if other != path:
            what = "ephemeral volume" if volume.is_ephemeral else f"volume {volume.name!r}"
            return f"the {what} cannot be mounted at two paths: {other!r} and {path!r}"
    return None


def _check_beside(path: str, volume: Volume, other: str, one: Volume) -> None:
    if one is volume:
        message = f"the same Volume cannot be mounted at two paths: {other!r} and {path!r}"
    elif path == other:
        message = f"two volumes are mounted at {path!r}"
    elif _inside(path, other) or _inside(other, path):
        message = f"a volume cannot be mounted inside of another: {other!r} and {path!r}. Mount them side by side"
    else:
        return
    raise ValueError(message)


def _mount_path(given: object) -> str:
    if not isinstance(given, (str, os.PathLike)) or not isinstance(os.fspath(given), str):
        message = f"a mount path of volumes must be a string or a path, got {given!r} ({type(given).__name__})"
        raise ValueError(message)  # noqa: TRY004
    path = PurePosixPath(given).as_posix()
    if posixpath.normpath(posixpath.join("/", path)) != path or path.startswith("//"):
        normal = posixpath.normpath("/" + path.lstrip("/"))
        message = f"the mount path {str(given)!r} of a volume must be a canonical absolute path. Write {normal!r}"
        raise ValueError(message)
    if path in _RESERVED:
        message = (
            f"a volume cannot be mounted at {path!r}. Name a folder below it, such as {posixpath.join(path, 'data')!r}"
        )
        raise ValueError(message)
    if any(path == folder or _inside(path, folder) for folder in _KERNEL):
        message = f"a volume cannot be mounted at {path!r}, which is the kernel's. Name another folder, such as '/data'"
        raise ValueError(message)
    return path


def _inside(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")
