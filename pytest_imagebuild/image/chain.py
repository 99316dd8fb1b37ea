"""`Image`: the chain of calls by which a test names the environment that it needs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from pytest_imagebuild.errors import DefinitionError
from pytest_imagebuild.image.calls import ChainCall, callers_line
from pytest_imagebuild.image.imports import ImportsBlock
from pytest_imagebuild.image.patterns import HIDDEN_FILES, NON_SOURCE_FILES
from pytest_imagebuild.image.recipe import Recipe
from pytest_imagebuild.image.sources import LocalDir, LocalFile, LocalPythonSource
from pytest_imagebuild.image.steps import (
    AptInstallStep,
    DebianSlimStep,
    EnvStep,
    FromRegistryStep,
    PipInstallStep,
    RunCommandsStep,
    UvPipInstallStep,
    WorkdirStep,
)

if TYPE_CHECKING:
    from typing import Concatenate, ParamSpec

    P = ParamSpec("P")
R = TypeVar("R")

__all__ = ["Image"]

_FACTORIES = "Image.debian_slim() or Image.from_registry()"


def _on_image(method: Callable[P, R]) -> Callable[P, R]:
    """Make a step that is called on the class itself say what is missing."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not args or not isinstance(args[0], Image):
            message = (
                f"{method.__name__}: Image has not been constructed yet. Use one of the static factory methods "
                f"to make one first: {_FACTORIES}."
            )
            raise DefinitionError(message, where=callers_line())
        return method(*args, **kwargs)

    return call


class Image(Recipe):
    """A container image, described: each call gives a new image and leaves the old one as it was.

    Nothing is read, run or fetched until a test or a command needs the image built. The names, arguments and
    meanings are those of `modal.Image`. A wrong argument raises `DefinitionError` at the call, with its line.

    Two images are equal when they have the same calls with the same arguments, wherever they were written.
    `secrets=`, `gpu=`, `volumes=`, `secret=`, `add_python=` and `setup_dockerfile_commands=` are not supported yet.
    """

    __slots__ = ()

    def __init__(self, *_: object, **__: object) -> None:
        message = f"Image has no constructor. Use one of the static factory methods: {_FACTORIES}."
        raise DefinitionError(message, where=callers_line())

    @staticmethod
    def debian_slim(python_version: str | None = None, force_build: bool = False) -> Image:
        """Start from Debian with Python and basic build tools.

        `python_version` is a series ("3.13") or a full version ("3.13.2"); without it, the series of the Python that
        runs pytest. Whether the builder version offers it is checked when the image is built.
        """
        call = ChainCall("debian_slim")
        version = call.python_version(python_version)
        return Image._make((DebianSlimStep(python_version=version, force=bool(force_build), where=call.where),))

    @staticmethod
    def from_registry(
        tag: str,
        secret: object = None,
        *,
        setup_dockerfile_commands: Sequence[str] = (),
        force_build: bool = False,
        add_python: str | None = None,
    ) -> Image:
        """Start from an image of a registry, by its reference: "debian:trixie", "ghcr.io/owner/name@sha256:..."."""
        call = ChainCall("from_registry")
        call.refuse(secret=secret, setup_dockerfile_commands=setup_dockerfile_commands, add_python=add_python)
        return Image._make((FromRegistryStep(tag=call.registry_tag(tag), force=bool(force_build), where=call.where),))

    @_on_image
    def apt_install(
        self,
        *packages: str | list[str],
        force_build: bool = False,
        env: Mapping[str, str | None] | None = None,
        secrets: Collection[object] | None = None,
        gpu: str | None = None,
    ) -> Image:
        """Install Debian packages. Without any, give the image itself."""
        call = ChainCall("apt_install")
        call.refuse(secrets=secrets, gpu=gpu)
        step = AptInstallStep(
            packages=call.strings("packages", packages),
            force=bool(force_build),
            build_env=call.build_env(env),
            where=call.where,
        )
        return self._then(step) if step.packages else self

    @_on_image
    def pip_install(
        self,
        *packages: str | list[str],
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
        env: Mapping[str, str | None] | None = None,
        secrets: Collection[object] | None = None,
        gpu: str | None = None,
    ) -> Image:
        """Install Python packages with pip. Without any, give the image itself.

        `extra_options` is shell text, put into the command as it is.
        """
        call = ChainCall("pip_install")
        call.refuse(secrets=secrets, gpu=gpu)
        step = PipInstallStep(
            packages=call.packages(packages),
            find_links=call.optional_text("find_links", find_links),
            index_url=call.optional_text("index_url", index_url),
            extra_index_url=call.optional_text("extra_index_url", extra_index_url),
            pre=bool(pre),
            extra_options=call.text("extra_options", extra_options),
            force=bool(force_build),
            build_env=call.build_env(env),
            where=call.where,
        )
        return self._then(step) if step.packages else self

    @_on_image
    def uv_pip_install(
        self,
        *packages: str | list[str],
        requirements: list[str] | None = None,
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
        uv_version: str | None = None,
        env: Mapping[str, str | None] | None = None,
        secrets: Collection[object] | None = None,
        gpu: str | None = None,
    ) -> Image:
        """Install Python packages with uv. Without any, and without `requirements`, give the image itself.

        `requirements` are local requirements files, read when the image is built. `uv_version` replaces the uv
        that the builder version pins.
        """
        call = ChainCall("uv_pip_install")
        call.refuse(secrets=secrets, gpu=gpu)
        step = UvPipInstallStep(
            packages=call.packages(packages),
            requirements=call.requirements(requirements),
            find_links=call.optional_text("find_links", find_links),
            index_url=call.optional_text("index_url", index_url),
            extra_index_url=call.optional_text("extra_index_url", extra_index_url),
            pre=bool(pre),
            extra_options=call.text("extra_options", extra_options),
            uv_version=call.optional_text("uv_version", uv_version),
            force=bool(force_build),
            build_env=call.build_env(env),
            where=call.where,
        )
        return self._then(step) if step.packages or step.requirements else self

    @_on_image
    def env(self, vars: Mapping[str, str]) -> Image:  # noqa: A002 - the reference's name
        """Set environment variables that stay in the image. Values are literal: `$X` is not replaced."""
        call = ChainCall("env")
        return self._then(EnvStep(variables=call.image_env(vars), where=call.where))

    @_on_image
    def workdir(self, path: str | PurePosixPath) -> Image:
        """Set the working directory of later steps and of containers; a relative path is relative to the one before."""
        call = ChainCall("workdir")
        return self._then(WorkdirStep(path=call.path("path", path), where=call.where))

    @_on_image
    def run_commands(
        self,
        *commands: str | list[str],
        env: Mapping[str, str | None] | None = None,
        secrets: Collection[object] | None = None,
        volumes: Mapping[str | PurePosixPath, object] | None = None,
        gpu: str | None = None,
        force_build: bool = False,
    ) -> Image:
        """Run shell commands, which make one layer. Without any, give the image itself."""
        call = ChainCall("run_commands")
        call.refuse(secrets=secrets, volumes=volumes, gpu=gpu)
        step = RunCommandsStep(
            commands=call.strings("commands", commands),
            force=bool(force_build),
            build_env=call.build_env(env),
            where=call.where,
        )
        return self._then(step) if step.commands else self

    @_on_image
    def add_local_file(self, local_path: str | Path, remote_path: str | PurePosixPath, *, copy: bool = False) -> Image:
        """Add a file. A `remote_path` that ends in "/" gets the file's name.

        With `copy=False` it is put in place when a container starts, and no build step may follow; with `copy=True`
        it is a layer. A relative `local_path` is relative to the working directory at build; `~` is the user's home.
        """
        call = ChainCall("add_local_file")
        local, remote = call.path("local_path", local_path), call.remote_path(remote_path)
        if remote.endswith("/"):
            remote += PurePath(local).name
        return self._add(LocalFile(local_path=local, remote_path=remote, where=call.where), copy=copy)

    @_on_image
    def add_local_dir(
        self,
        local_path: str | Path,
        remote_path: str | PurePosixPath,
        *,
        copy: bool = False,
        ignore: Sequence[str] | Callable[[Path], bool] = (),
    ) -> Image:
        """Add the contents of a folder below `remote_path`; `copy` as in `add_local_file`.

        `ignore` leaves files out: patterns as in a `.dockerignore` file, or a callable that gets each file's path
        relative to the folder and gives True to leave it out. By default nothing is left out.
        """
        call = ChainCall("add_local_dir")
        source = LocalDir(
            local_path=call.path("local_path", local_path),
            remote_path=call.remote_path(remote_path).rstrip("/") or "/",
            ignore=call.ignore(ignore),
            where=call.where,
        )
        return self._add(source, copy=copy)

    @_on_image
    def add_local_python_source(
        self,
        *modules: str,
        copy: bool = False,
        ignore: Sequence[str] | Callable[[Path], bool] | None = NON_SOURCE_FILES,
    ) -> Image:
        """Add importable modules or packages of the host below `/root`; `copy` as in `add_local_file`.

        `ignore` is as in `add_local_dir`. By default only `.py` files come along, and none below a dot-prefixed or
        `__pycache__` folder; None leaves out just what those two hold.
        """
        call = ChainCall("add_local_python_source")
        source = LocalPythonSource(
            modules=call.modules(modules),
            ignore=HIDDEN_FILES if ignore is None else call.ignore(ignore),
            where=call.where,
        )
        return self._add(source, copy=copy)

    @_on_image
    def pipe(self, func: Callable[Concatenate[Image, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Give `func(image, *args, **kwargs)`: a function of yours as one link of the chain."""
        return func(self, *args, **kwargs)

    @_on_image
    def imports(self) -> ImportsBlock:
        """Guard imports that only the image has: `with image.imports(): import pandas`.

        In a container of this image the block runs as it stands. Elsewhere an exception in it is swallowed; one
        that is not an `ImportError` also gives a `UserWarning`.
        """
        return ImportsBlock(self.definition)
