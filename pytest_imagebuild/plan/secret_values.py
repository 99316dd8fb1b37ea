"""Read the values of secrets on the host, when a build or a session needs them.

The secrets file of `Secret.from_name` is TOML, a table for each name. No value is ever part of an error.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_imagebuild.errors import SecretError, SourceLocation

if TYPE_CHECKING:
    from pytest_imagebuild.image.secret import Secret

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["SECRETS_FILE", "SecretValues", "read_secrets", "secrets_file"]

SECRETS_FILE = "IMAGEBUILD_SECRETS_FILE"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SecretValues(dict[str, str]):
    """Values by the names of their variables. How it is shown, as in the frames of a traceback, hides them."""

    def __repr__(self) -> str:
        return f"SecretValues({', '.join(sorted(self))})"


def read_secrets(
    secrets: Iterable[Secret], environ: Mapping[str, str], *, where: SourceLocation | None = None
) -> SecretValues:
    """Return the variables that secrets give; of two with the same name, the later one's.

    `environ` is the host's environment, `where` the line to name for a secret that knows none. Raises SecretError.
    """
    values = SecretValues()
    for secret in secrets:
        found = _read(secret, environ, where)
        for name, value in found.items():
            if not _NAME.fullmatch(name):
                raise _error(
                    secret, where, f"cannot set the variable {name!r}: letters, digits and '_' only. Rename it"
                )
            if "\0" in value:
                raise _error(secret, where, f"has a NUL byte in the value of {name!r}, which no variable can hold")
        values.update(found)
    return values


def secrets_file(environ: Mapping[str, str]) -> Path:
    """Return where the user's secrets are: what `IMAGEBUILD_SECRETS_FILE` names, else a file beside other settings."""
    named = environ.get(SECRETS_FILE)
    if named:
        return Path(named).expanduser().absolute()
    folder = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or Path.home()) / ".config"
    return Path(folder) / "imagebuild" / "secrets.toml"


def _read(secret: Secret, environ: Mapping[str, str], where: SourceLocation | None) -> dict[str, str]:
    match secret.kind:
        case "dict":
            return dict(secret.held)
        case "environ":
            return _from_environment(secret, environ, where)
        case "dotenv":
            return _from_dotenv(secret, where)
        case "name":
            return _from_name(secret, environ, where)


def _from_environment(secret: Secret, environ: Mapping[str, str], where: SourceLocation | None) -> dict[str, str]:
    missing = [name for name in secret.names if name not in environ]
    if missing:
        what = f"found no {', '.join(missing)} in the environment of pytest. Set what is missing before pytest starts"
        raise _error(secret, where, what)
    return {name: environ[name] for name in secret.names}


def _from_dotenv(secret: Secret, where: SourceLocation | None) -> dict[str, str]:
    from dotenv import dotenv_values  # noqa: PLC0415 - only who has such a file pays for it

    start = Path(secret.path).expanduser().absolute()
    folder = start.parent if start.is_file() else start
    path = next(
        (place / secret.filename for place in (folder, *folder.parents) if (place / secret.filename).is_file()), None
    )
    if path is None:
        found_none = f"found no file {secret.filename} in {folder} or a folder above it"
        what = f"{found_none}. Create it, or name the folder that has it"
        raise _error(secret, where, what)
    try:
        found = dotenv_values(path, encoding="utf-8")
    except OSError as error:
        raise _error(secret, where, f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise _error(secret, where, f"cannot read {path}: it is not UTF-8 text") from None
    return {name: value for name, value in found.items() if value is not None}


def _from_name(secret: Secret, environ: Mapping[str, str], where: SourceLocation | None) -> dict[str, str]:
    path = secrets_file(environ)
    tables = _tables(secret, path, where)
    table = None if tables is None else tables.get(secret.origin)
    if table is None:
        if secret.required and all(name in environ for name in secret.required):
            return {name: environ[name] for name in secret.required}
        raise _not_there(secret, path, tables, where)
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        what = f"found [{_key(secret.origin)}] of {path} to be no table of strings. Write each value in quotes"
        raise _error(secret, where, what)
    missing = [name for name in secret.required if name not in table]
    if missing:
        what = (
            f"found no {', '.join(missing)} in [{_key(secret.origin)}] of {path}, which required_keys asks for. Add it"
        )
        raise _error(secret, where, what)
    return dict(table)


def _tables(secret: Secret, path: Path, where: SourceLocation | None) -> dict[str, Any] | None:
    """Return the parsed secrets file, None where there is none."""
    try:
        mode = path.stat().st_mode
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            what = f"does not use {path}: others may read or change it (mode {mode & 0o777:o}). Run `chmod 600 {path}`"
            raise _error(secret, where, what)
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _error(secret, where, f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        # What the parser says may repeat a part of the line.
        place = re.search(r"at line \d+, column \d+", str(error))
        raise _error(secret, where, f"cannot read {path}: it is not TOML{f' ({place[0]})' if place else ''}") from None


def _not_there(
    secret: Secret, path: Path, tables: Mapping[str, Any] | None, where: SourceLocation | None
) -> SecretError:
    if tables is None:
        found = f"found no file {path}"
    else:
        found = f"found no table [{_key(secret.origin)}] in {path}, which has {', '.join(sorted(tables)) or 'none'}"
    advice = f'Write it there: a line [{_key(secret.origin)}], then a line NAME = "value" for each variable'
    if secret.required:
        advice += f"; or set {', '.join(secret.required)} in the environment of pytest"
    return _error(secret, where, f"{found}. {advice}")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _error(secret: Secret, where: SourceLocation | None, what: str) -> SecretError:
    return SecretError(f"{secret!r} {what}.", where=secret.where or where)
