"""Calls one function of the user while an image is built. Runs in the container: imports the standard library only.

Started by the path of a copy of this file, which lies in a folder with what belongs to the call:

    call.json     `module` and `name` of the function, `root` for the sources, `places` for tracebacks, `shipped`
    payload       the pickled pair of its arguments, where it has some
    sources.tar   the user's files, by their paths below `root`
    runtime.zip   pytest and this package, for modules that import them: last on `sys.path`

One process puts the sources in place and takes them out again; a child of it calls the function, so that nothing that
the function does, `os._exit` included, can leave them behind.
"""

from __future__ import annotations

import collections
import contextlib
import importlib
import inspect
import json
import os
import pickle
import sys
import tarfile
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

_ASIDE = ".imagebuild-aside-"
_SHIPPED = (
    "imagebuild: the container of this step has the packages of its image, pytest, and {files}. Install packages "
    'before run_function; add other modules of yours with .add_local_python_source("NAME", copy=True) before it; an '
    "import that only tests need can stand in `with image.imports():`.\n"
)
_NOT_SHIPPED = (
    "imagebuild: the source of the function is not put into the container of this step, because it is installed on the "
    "host or include_source=False was given. The image must have it: install it before run_function, or add it with "
    '.add_local_python_source("NAME", copy=True).\n'
)


class Sources:
    """The user's files, for the time of the call. What they are put over is moved aside and comes back."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: list[Path] = []
        self._aside: list[tuple[Path, Path]] = []
        self._folders: list[Path] = []
        self._compiled: set[Path] = set()

    def put(self, archive: Path) -> None:
        """Put in place the files of a tar."""
        self._make_folder(self._root)
        with tarfile.open(archive) as members:
            for member in members:
                content = members.extractfile(member)
                if content is not None:
                    self._put_file(self._root / member.name, content.read(), member.mode)

    def take_out(self) -> None:
        """Remove them and what Python compiled of them, and bring back what was there."""
        for path in self._files:
            path.unlink(missing_ok=True)
            for compiled in {*_compiled_of(path)} - self._compiled:
                compiled.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                (path.parent / "__pycache__").rmdir()
        for path, aside in self._aside:
            aside.replace(path)
        for folder in reversed(self._folders):
            # What the function itself has written there stays.
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _put_file(self, path: Path, content: bytes, mode: int) -> None:
        if path.is_file() and not path.is_symlink() and path.read_bytes() == content:
            return
        self._make_folder(path.parent)
        self._compiled.update(_compiled_of(path))
        if path.is_symlink() or path.exists():
            aside = path.with_name(_ASIDE + path.name)
            path.replace(aside)
            self._aside.append((path, aside))
        self._files.append(path)
        path.write_bytes(content)
        path.chmod(mode)

    def _make_folder(self, path: Path) -> None:
        if not path.is_dir():
            self._make_folder(path.parent)
            path.mkdir()
            self._folders.append(path)


def main(home: Path) -> int:
    """Call the function that `home` describes, in a child. Returns its exit status, 128 + signal for a killed one."""
    call = json.loads((home / "call.json").read_text("utf-8"))
    sources = Sources(Path(call["root"]))
    sources.put(home / "sources.tar")
    child = os.fork()
    if child == 0:
        return run(call, home)
    _, status = os.waitpid(child, 0)
    sources.take_out()
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def run(call: dict[str, Any], home: Path) -> int:
    """Import the function and call it, in this process. Returns 0, or 1 when that raised something."""
    root = call["root"]
    if Path.cwd() == Path("/"):
        os.chdir(root)
    sys.argv = [f"{root}/{call['module'].replace('.', '/')}.py"]
    runtime = str(home / "runtime.zip")
    sys.path[:] = [runtime, *(entry for entry in sys.path if entry != str(home))]
    # Of all that comes along, this package alone wins over one that the image has installed.
    importlib.import_module("pytest_imagebuild")
    sys.path[:] = [root, *sys.path[1:], runtime]
    try:
        function = _find(call["module"], call["name"])
        arguments, named = _arguments(home / "payload")
        _exhaust(function(*arguments, **named))
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - also what pytest raises for skip and fail, and Ctrl-C
        sys.stdout.flush()
        sys.stderr.write(told(error, call["places"]))
        if isinstance(error, ImportError):
            advice = _SHIPPED if call["shipped"] else _NOT_SHIPPED
            sys.stderr.write(advice.format(files=" and ".join(call["places"])))
        return 1
    return 0


def told(error: BaseException, places: dict[str, str]) -> str:
    """Return the traceback of an error, from the user's first frame on, with the paths that the host knows."""
    told_by = traceback.TracebackException(type(error), error, _of_the_user(error.__traceback__))
    text = "".join(told_by.format())
    for inside, outside in places.items():
        text = text.replace(f'File "{inside}', f'File "{outside}')
    return text


def _of_the_user(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None:
        file = frames.tb_frame.f_code.co_filename
        if file not in (__file__, importlib.__file__) and not file.startswith("<frozen importlib"):
            return frames
        frames = frames.tb_next
    return None


def _find(module: str, name: str) -> Any:
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _arguments(payload: Path) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not payload.exists():
        return (), {}
    arguments, named = pickle.loads(payload.read_bytes())  # noqa: S301 - what the host wrote
    return arguments, named


def _exhaust(result: Any) -> None:
    """Do what is left to do: await a coroutine, run a generator to its end."""
    if inspect.isgenerator(result):
        collections.deque(result, maxlen=0)
    elif inspect.isawaitable(result) or inspect.isasyncgen(result):
        import asyncio  # noqa: PLC0415 - few functions need it

        asyncio.run(_awaited(result))


async def _awaited(result: Any) -> None:
    if inspect.isasyncgen(result):
        async for _ in result:
            pass
    else:
        await result


def _compiled_of(path: Path) -> list[Path]:
    return list((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"))


if __name__ == "__main__":
    sys.exit(main(Path(__file__).absolute().parent))
