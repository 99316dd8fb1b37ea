"""The links of a chain that take in local files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING

from pytest_imagebuild.image.calls import ChainCall
from pytest_imagebuild.image.patterns import HIDDEN_FILES, NON_SOURCE_FILES
from pytest_imagebuild.image.recipe import Recipe, on_recipe

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Adding"]


class Adding(Recipe):
    """Local files: put in place when a container starts, or copied into a layer."""

    __slots__ = ()

    @on_recipe
    def add_local_file(self, local_path: str | Path, remote_path: str | PurePosixPath, *, copy: bool = False) -> Self:
        """Add a file. A `remote_path` that ends in "/" gets the file's name.

        With `copy=False` it is put in place when a container starts, and no build step may follow; with `copy=True`
        it is a layer. A relative `local_path` is relative to the working directory at build; `~` is the user's home.
        """
        from pytest_imagebuild.image.sources import LocalFile  # noqa: PLC0415 - each call loads its own kind

        call = ChainCall("add_local_file")
        local, remote = call.path("local_path", local_path), call.remote_path(remote_path)
        if remote.endswith("/"):
            remote += PurePath(local).name
        return self._add(LocalFile(local_path=local, remote_path=remote, where=call.where), copy=copy)

    @on_recipe
    def add_local_dir(
        self,
        local_path: str | Path,
        remote_path: str | PurePosixPath,
        *,
        copy: bool = False,
        ignore: Sequence[str] | Callable[[Path], bool] = (),
    ) -> Self:
        """Add the contents of a folder below `remote_path`; `copy` as in `add_local_file`.

        `ignore` leaves files out: patterns as in a `.dockerignore` file, or a callable that gets each file's path
        relative to the folder and gives True to leave it out. By default nothing is left out.
        """
        from pytest_imagebuild.image.sources import LocalDir  # noqa: PLC0415

        call = ChainCall("add_local_dir")
        source = LocalDir(
            local_path=call.path("local_path", local_path),
            remote_path=call.remote_path(remote_path).rstrip("/") or "/",
            ignore=call.ignore(ignore),
            where=call.where,
        )
        return self._add(source, copy=copy)

    @on_recipe
    def add_local_python_source(
        self,
        *modules: str,
        copy: bool = False,
        ignore: Sequence[str] | Callable[[Path], bool] | None = NON_SOURCE_FILES,
    ) -> Self:
        """Add importable modules or packages of the host below `/root`; `copy` as in `add_local_file`.

        `ignore` is as in `add_local_dir`. By default only `.py` files come along, and none below a dot-prefixed or
        `__pycache__` folder; None leaves out just what those two hold.
        """
        from pytest_imagebuild.image.sources import LocalPythonSource  # noqa: PLC0415

        call = ChainCall("add_local_python_source")
        source = LocalPythonSource(
            modules=call.modules(modules),
            ignore=HIDDEN_FILES if ignore is None else call.ignore(ignore),
            where=call.where,
        )
        return self._add(source, copy=copy)
