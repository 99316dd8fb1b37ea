"""The links of a chain that run commands and set what containers start with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pytest_imagebuild.image.calls import ChainCall
from pytest_imagebuild.image.recipe import Recipe, on_recipe

if TYPE_CHECKING:
    from typing_extensions import Self

    from pytest_imagebuild.image.secret import Secret
    from pytest_imagebuild.image.volume import Volume

__all__ = ["Changing"]


class Changing(Recipe):
    """Steps that run commands and change the configuration."""

    __slots__ = ()

    @on_recipe
    def env(self, vars: Mapping[str, str]) -> Self:  # noqa: A002 - the reference's name
        """Set environment variables that stay in the image. Values are literal: `$X` is not replaced."""
        from pytest_imagebuild.image.steps.variables import EnvStep  # noqa: PLC0415 - each call loads its own kind

        call = ChainCall("env")
        return self._then(EnvStep(variables=call.image_env(vars), where=call.where))

    @on_recipe
    def workdir(self, path: str | PurePosixPath) -> Self:
        """Set the working directory of later steps and of containers; a relative path is relative to the one before."""
        from pytest_imagebuild.image.steps.settings import WorkdirStep  # noqa: PLC0415

        call = ChainCall("workdir")
        return self._then(WorkdirStep(path=call.path("path", path), where=call.where))

    @on_recipe
    def cmd(self, cmd: list[str]) -> Self:
        """Set what a container runs when it is told nothing else. Tests and build steps do not need it."""
        from pytest_imagebuild.image.steps.settings import CmdStep  # noqa: PLC0415

        call = ChainCall("cmd")
        return self._then(CmdStep(argv=call.words("Image CMD", cmd), where=call.where))

    @on_recipe
    def entrypoint(self, entrypoint_commands: list[str]) -> Self:
        """Set what the command of a container is given to. As in a Dockerfile, the command set before is gone then."""
        from pytest_imagebuild.image.steps.settings import EntrypointStep  # noqa: PLC0415

        call = ChainCall("entrypoint")
        argv = call.words("entrypoint_commands", entrypoint_commands)
        return self._then(EntrypointStep(argv=argv, where=call.where))

    @on_recipe
    def shell(self, shell_commands: list[str]) -> Self:
        """Set what runs the commands of later steps: they come as its last argument. It starts the tests, too."""
        from pytest_imagebuild.image.steps.settings import ShellStep  # noqa: PLC0415

        call = ChainCall("shell")
        return self._then(ShellStep(argv=call.words("shell_commands", shell_commands), where=call.where))

    @on_recipe
    def run_commands(
        self,
        *commands: str | list[str],
        env: Mapping[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        volumes: Mapping[str | PurePosixPath, Volume] | None = None,
        gpu: str | None = None,
        force_build: bool = False,
    ) -> Self:
        """Run shell commands, which make one layer. Without any, give the image itself.

        `volumes` are mounted at absolute paths while the commands run. What is written there stays in the volume and is
        no part of the layer, which has an empty folder there unless it had one before.
        """
        from pytest_imagebuild.image.steps.commands import RunCommandsStep  # noqa: PLC0415

        call = ChainCall("run_commands")
        step = RunCommandsStep(
            commands=call.strings("commands", commands),
            volumes=call.volumes(volumes),
            **call.layer_options(force_build=force_build, env=env, secrets=secrets, gpu=gpu),
        )
        return self._then(step) if step.commands else self
