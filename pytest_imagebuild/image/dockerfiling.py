"""The links of a chain that take Dockerfile lines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_imagebuild.image.calls import ChainCall
from pytest_imagebuild.image.patterns import AUTO_DOCKERIGNORE, AutoDockerignore, FilePatternMatcher
from pytest_imagebuild.image.recipe import Recipe, on_recipe

if TYPE_CHECKING:
    from typing_extensions import Self

    from pytest_imagebuild.image.dockerfile_lines import BuildContext, ContextIgnore
    from pytest_imagebuild.image.secret import Secret

__all__ = ["Dockerfiles"]

Ignore = AutoDockerignore | FilePatternMatcher | Sequence[str] | Callable[[Path], bool]


class Dockerfiles(Recipe):
    """An image out of a Dockerfile, and Dockerfile lines as a step."""

    __slots__ = ()

    @classmethod
    def from_dockerfile(
        cls,
        path: str | Path,
        *,
        force_build: bool = False,
        context_dir: str | Path | None = None,
        ignore: Ignore = AUTO_DOCKERIGNORE,
        build_args: Mapping[str, str] | None = None,
        registry_secret: Secret | None = None,
        secrets: Collection[Secret] | None = None,
        env: Mapping[str, str | None] | None = None,
        gpu: str | None = None,
        add_python: str | None = None,
    ) -> Self:
        """Start from what a Dockerfile makes. It is read when the image is built, with its files from `context_dir`.

        Without `context_dir`, the context is the current folder. `ignore` leaves files out of it: patterns or a
        callable, by default an ignore file where Docker looks for one; `ignore=[]` takes all. `env` are variables that
        its `RUN` lines see and that do not stay in the image; `secrets` give more of them, whose values nothing shows,
        and what `RUN --mount=type=secret` finds. `registry_secret` is as in `from_registry`, for one `FROM`.
        `add_python` puts a standalone CPython into `/usr/local` in the end.
        """
        from pytest_imagebuild.image.dockerfiles import FromDockerfileStep  # noqa: PLC0415 - each call loads its own kind
        from pytest_imagebuild.image.secret import RegistrySecret  # noqa: PLC0415

        call = ChainCall("from_dockerfile")
        _refuse_gpu(call, gpu)
        given = call.secret(registry_secret, "registry_secret")
        file = call.path("path", path)
        step = FromDockerfileStep(
            path=file,
            add_python=call.python_version(add_python, "add_python"),
            login=None if given is None else RegistrySecret(secret=given, service=""),
            context=_context(call, context_dir, ignore, dockerfile=file),
            build_args=_build_args(call, build_args),
            **call.layer_options(force_build=force_build, env=env, secrets=secrets),
        )
        return cls._make((step,))

    @on_recipe
    def dockerfile_commands(
        self,
        *dockerfile_commands: str | list[str],
        context_files: Mapping[str, str] | None = None,
        env: Mapping[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | None = None,
        context_dir: str | Path | None = None,
        force_build: bool = False,
        ignore: Ignore = AUTO_DOCKERIGNORE,
        build_args: Mapping[str, str] | None = None,
    ) -> Self:
        """Do what Dockerfile lines say, as one layer. Without any, give the image itself.

        `context_files` maps paths in the build context to local files that are to be there, whatever is ignored.
        """
        from pytest_imagebuild.image.dockerfiles import DockerfileCommandsStep  # noqa: PLC0415

        call = ChainCall("dockerfile_commands")
        _refuse_gpu(call, gpu)
        step = DockerfileCommandsStep(
            commands=call.strings("dockerfile_commands", dockerfile_commands),
            context=_context(call, context_dir, ignore, files=_context_files(call, context_files)),
            build_args=_build_args(call, build_args),
            **call.layer_options(force_build=force_build, env=env, secrets=secrets),
        )
        return self._then(step) if step.commands else self


def _refuse_gpu(call: ChainCall, gpu: object) -> None:
    if gpu is not None:
        message = "gpu= is not supported: no builder of Dockerfiles is given devices. Use run_commands(..., gpu=...)"
        raise call.error(message)


def _context(
    call: ChainCall,
    directory: object,
    ignore: object,
    *,
    dockerfile: str | None = None,
    files: tuple[tuple[str, str], ...] = (),
) -> BuildContext:
    from pytest_imagebuild.image.dockerfile_lines import BuildContext  # noqa: PLC0415 - as above

    checked: ContextIgnore = ignore if isinstance(ignore, AutoDockerignore) else call.ignore(ignore)
    folder = None if directory is None else call.path("context_dir", directory)
    return BuildContext(directory=folder, dockerfile=dockerfile, ignore=checked, files=files)


def _build_args(call: ChainCall, value: object) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(_texts(call, "build_args", value)))


def _context_files(call: ChainCall, value: object) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(_texts(call, "context_files", value)))


def _texts(call: ChainCall, name: str, value: object) -> list[tuple[str, str]]:
    if value is None:
        return []
    if not isinstance(value, Mapping):
        raise call.error(f"{name} must be a dict of strings, got {value!r} ({type(value).__name__})")
    wrong = next((pair for pair in value.items() if not all(isinstance(part, str) for part in pair)), None)
    if wrong is not None:
        raise call.error(f"{name} must be a dict of strings, got {wrong[0]!r}: {wrong[1]!r}")
    return list(value.items())
