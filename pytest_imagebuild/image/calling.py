"""The link of a chain that calls a Python function."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from pytest_imagebuild.image.calls import ChainCall
from pytest_imagebuild.image.recipe import Recipe, on_recipe

if TYPE_CHECKING:
    from typing_extensions import Self

    from pytest_imagebuild.image.secret import Secret
    from pytest_imagebuild.image.volume import Volume

__all__ = ["Calling"]


class Calling(Recipe):
    """A step that calls a function."""

    __slots__ = ()

    @on_recipe
    def run_function(
        self,
        raw_f: Callable[..., object],
        *,
        env: Mapping[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        volumes: Mapping[str | PurePosixPath, Volume] | None = None,
        network_file_systems: Mapping[str | PurePosixPath, object] | None = None,
        gpu: str | list[str] | None = None,
        cpu: float | tuple[float, float] | None = None,
        memory: int | str | tuple[int, int] | None = None,
        timeout: float | None = 3600,
        cloud: str | None = None,  # noqa: ARG002 - a definition may say where Modal runs it; here there is one machine
        region: str | Sequence[str] | None = None,  # noqa: ARG002
        force_build: bool = False,
        args: Sequence[object] = (),
        kwargs: Mapping[str, Any] | None = None,
        include_source: bool = True,
    ) -> Self:
        """Call `raw_f(*args, **kwargs)` in a container; what it leaves in the file system is the new layer.

        The file that defines it (the whole top-level package, where it is in one) is put below `/root` for the time of
        the call and imported there by its name; with `include_source=False` the image must have it. A coroutine is
        awaited, a generator iterated to its end. `cpu` is in cores, `memory` in MiB, `timeout` in seconds. An exception
        fails the build, with its traceback. `cloud` and `region` mean nothing here and are ignored.
        """
        from pytest_imagebuild.image.function_call import (  # noqa: PLC0415 - each call loads its own kind
            CallFunction,
            checked_arguments,
            checked_function,
            checked_timeout,
            file_of,
        )
        from pytest_imagebuild.image.functions import RunFunctionStep  # noqa: PLC0415
        from pytest_imagebuild.image.resources import bytes_of, cores_of  # noqa: PLC0415

        call = ChainCall("run_function")
        if network_file_systems:
            message = (
                "network_file_systems= is not supported: network file systems are on Modal's servers only. Use volumes="
            )
            raise call.error(message)
        function = checked_function(call, raw_f)
        payload, arguments = checked_arguments(call, args, kwargs)
        name, path = file_of(function)
        step = RunFunctionStep(
            call=CallFunction(
                file=name,
                name=function.__qualname__,
                arguments=arguments,
                path=path,
                include_source=bool(include_source),
                cpu=call.limit(cores_of, cpu),
                memory=call.limit(bytes_of, memory),
                timeout=checked_timeout(call, timeout),
                function=raw_f,
                payload=payload,
            ),
            volumes=call.volumes(volumes),
            **call.layer_options(force_build=force_build, env=env, secrets=secrets, gpu=gpu, fallbacks=True),
        )
        return self._then(step)
