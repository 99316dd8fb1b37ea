"""Users and groups of an image, by name or number."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_imagebuild.engines.embedded.files import UpperFolder
from pytest_imagebuild.errors import EngineError

__all__ = ["User", "owner_of", "user_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """Whom a command runs as."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/root"


def user_of(upper: UpperFolder, text: str) -> User:
    """Return whom `USER` means. Raises EngineError for a name that the image does not know."""
    name, _, group = (text or "0").partition(":")
    entry = _entry(upper, "/etc/passwd", name, fields=6)
    if entry is None and not name.isdecimal():
        raise EngineError(f"the image has no user named {name}")
    uid = int(entry[2]) if entry else int(name)
    home = entry[5] if entry else "/"
    if group:
        return User(uid=uid, gid=_group(upper, group), home=home or "/")
    gid = int(entry[3]) if entry else 0
    member = [fields for fields in _fields(upper, "/etc/group", 4) if entry and entry[0] in fields[3].split(",")]
    return User(uid=uid, gid=gid, groups=tuple(int(fields[2]) for fields in member), home=home or "/")


def owner_of(upper: UpperFolder, text: str) -> tuple[int, int]:
    """Return user and group of a `--chown`: a number alone is both."""
    name, _, group = text.partition(":")
    if name.isdecimal():
        uid = gid = int(name)
    else:
        found = user_of(upper, name)
        uid, gid = found.uid, found.gid
    return uid, _group(upper, group) if group else gid


def _group(upper: UpperFolder, name: str) -> int:
    if name.isdecimal():
        return int(name)
    entry = _entry(upper, "/etc/group", name, fields=3)
    if entry is None:
        raise EngineError(f"the image has no group named {name}")
    return int(entry[2])


def _entry(upper: UpperFolder, file: str, name: str, *, fields: int) -> list[str] | None:
    wanted = [line for line in _fields(upper, file, fields) if line[0] == name or line[2] == name]
    # A name that looks like a number is a name first.
    return next((line for line in wanted if line[0] == name), wanted[0] if wanted else None)


def _fields(upper: UpperFolder, file: str, least: int) -> list[list[str]]:
    lines = (line.split(":") for line in upper.read_text(file).splitlines())
    return [line for line in lines if len(line) >= least and line[2].isdecimal()]
