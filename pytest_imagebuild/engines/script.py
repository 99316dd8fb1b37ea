"""The shell script that does the work of a step. It goes to `/bin/sh` over its standard input.

Nothing of it is in the command line, the environment or the configuration of the container, so nothing of it is in
the layer's configuration or history. The braces make the shell read all of it before it does any of it.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence

from pytest_imagebuild.engines.entries import FileEntry, read_entry
from pytest_imagebuild.errors import EngineError

__all__ = ["MEMORY_FOLDER", "Script", "export"]

MEMORY_FOLDER = "/dev/shm/"  # noqa: S108 - the folder in the container's memory, which is no part of a layer
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# The first three lines end the work when standard input closes, that is when the controller is gone.
_OPENING = """\
{
exec 3<&0 </dev/null
( while read -r _ <&3; do :; done; kill -KILL -1 ) >/dev/null 2>&1 &
exec 3<&-
"""


class Script:
    """One script, and the mark by which its error output tells which command runs.

    With `one_stream`, commands print to the error output only, so that their lines keep their order.
    """

    def __init__(
        self,
        *,
        commands: Sequence[str],
        shell: Sequence[str],
        environment: Mapping[str, str],
        memory_files: Iterable[FileEntry],
        removed_files: Sequence[str],
        removed_folders: Sequence[str],
        one_stream: bool,
    ) -> None:
        self.mark = f"imagebuild-{secrets.token_hex(16)}:"
        self._last = len(commands)
        parts = [_OPENING, *(_write_file(entry) for entry in memory_files)]
        parts += [
            "(\n",
            *(["exec >&2\n"] if one_stream else []),
            *(export(name, value) for name, value in environment.items()),
        ]
        for index, command in enumerate(commands):
            words = " ".join(map(quote, [*shell, command]))
            parts.append(f"echo {self.mark}{index} >&2\n{words} </dev/null || exit\n")
        parts.append(f")\ncode=$?\n[ $code = 0 ] || exit $code\necho {self.mark}{self._last} >&2\n")
        parts += [f"rm -f -- {quote(path)} || exit\n" for path in removed_files]
        parts += [f"rmdir -- {quote(path)} 2>/dev/null\n" for path in removed_folders]
        parts.append("exit 0\n}\n")
        self.text = "".join(parts)

    def index(self, marked: str) -> int | None:
        """Return which command a mark names; None once all of them have ended well."""
        number = int(marked) if marked.isdecimal() else self._last
        return number if number < self._last else None


def in_memory(tool: FileEntry) -> bool:
    """Say whether a tool is a file in the container's memory, which the script itself writes."""
    return tool.path.startswith(MEMORY_FOLDER)


def in_the_way(tool: FileEntry) -> EngineError:
    """Return the error of a tool that would take the place of a file."""
    return EngineError(f"the tool {tool.path} cannot be lent to the step: the image has a file of that name")


def quote(text: str) -> str:
    """Quote for `/bin/sh`; unlike `shlex.quote` it refuses what no shell can hold."""
    if "\0" in text:
        raise EngineError(f"a command or a variable holds a NUL byte: {text[:60]!r}")
    return "'" + text.replace("'", "'\"'\"'") + "'"


def export(name: str, value: str) -> str:
    """Return the line that sets a variable. Raises EngineError for a name that no shell takes."""
    if not _NAME.fullmatch(name):
        # dash drops such a variable even from the environment that it was started with.
        raise EngineError(f"the variable {name!r} cannot be set for a step: a shell takes letters, digits and '_' only")
    return f"export {name}={quote(value)}\n"


def _write_file(entry: FileEntry) -> str:
    data = read_entry(entry)
    path = quote(entry.path)
    folder = quote(entry.path.rpartition("/")[0])
    end = f"END-{secrets.token_hex(8)}"
    text = _as_text(data)
    if text is None:
        body = f"base64 -d > {path} <<'{end}' || exit\n{base64.encodebytes(data).decode('ascii')}{end}\n"
    else:
        body = f"cat > {path} <<'{end}' || exit\n{text}{end}\n"
    return f"mkdir -p {folder} || exit\n{body}chmod {entry.mode & 0o7777:o} {path} || exit\n"


def _as_text(data: bytes) -> str | None:
    if b"\0" in data or not data.endswith(b"\n"):
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None
