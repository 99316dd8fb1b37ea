"""The methods of an image that do something now. What does it is loaded when one is called; nothing here acts."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

from pytest_imagebuild.image.calls import ChainCall
from pytest_imagebuild.image.imports import IMAGE_VARIABLE
from pytest_imagebuild.image.names import image_name
from pytest_imagebuild.image.recipe import not_constructed

if TYPE_CHECKING:
    from pytest_imagebuild.image.chain import Image

__all__ = ["Blocking", "Logs", "build", "hydrate", "object_id", "publish"]

P = ParamSpec("P")
R = TypeVar("R")

# By name: in containers there are descriptions only.
_LOCAL = "pytest_imagebuild.local"


class Blocking(Generic[P, R]):
    """A method that takes its time. `image.method.aio(...)` awaits it in a thread."""

    def __init__(self, function: Callable[Concatenate[Image, ChainCall, P], R]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, image: Image | None, owner: type | None = None) -> Bound[P, R]:
        return Bound(self._function, self._name, image)


class Bound(Generic[P, R]):
    """Such a method of one image."""

    def __init__(self, function: Callable[Concatenate[Image, ChainCall, P], R], name: str, image: Image | None) -> None:
        self._function = function
        self._image = image
        self.__name__ = name
        self.__doc__ = function.__doc__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._prepared()(*args, **kwargs)

    def aio(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Do it in a thread, and await its end."""
        import asyncio  # noqa: PLC0415 - who imports it has a loop already

        return asyncio.to_thread(self._prepared(), *args, **kwargs)

    @property
    def __signature__(self) -> object:
        """The parameters as a user gives them, for `help()` and `inspect`."""
        import inspect  # noqa: PLC0415 - nobody else needs it

        whole = inspect.signature(self._function)
        image, _, *others = whole.parameters.values()
        mine = [image.replace(name="self", annotation=image.empty)] if self._image is None else []
        return whole.replace(parameters=[*mine, *others])

    def _prepared(self) -> Callable[P, R]:
        if self._image is None:
            raise not_constructed(self.__name__)
        # The line of the call is that of the thread in which it stands.
        return functools.partial(self._function, self._image, ChainCall(self.__name__))


class Logs:
    """What the steps of an image printed while this process built it."""

    def __init__(self, image: Image) -> None:
        self._image = image

    def fetch(self) -> tuple[str, ...]:
        """Give all lines, in their order. Layers that were there already printed nothing."""
        return self._lines()

    def tail(self, n: int = 100) -> tuple[str, ...]:
        """Give the last `n` lines."""
        lines = self._lines()
        return lines[max(0, len(lines) - n) :]

    def _lines(self) -> tuple[str, ...]:
        local = sys.modules.get(_LOCAL)
        lines: tuple[str, ...] | None = local.lines(self._image) if local is not None else None
        if lines is None:
            raise ChainCall("logs").error(
                "Cannot fetch logs for an image that has not been built yet. Call `.build()` first."
            )
        return lines


def build(image: Image, call: ChainCall, app: object = None) -> Image:  # noqa: ARG001 - an app is of Modal's servers
    """Build the image now, if this process has not built it yet, and give the image itself.

    In a run of pytest it is built on the engine of that run, else on the one that a run of pytest here would use. In a
    container there is nothing to build. Raises `ImageBuildError`. `app` means nothing here.
    """
    if not _in_container():
        _local().build(image)
    return image


def publish(
    image: Image,
    call: ChainCall,
    name: str,
    *,
    environment_name: str | None = None,
    experimental_options: object = None,  # noqa: ARG001 - the reference's signature
    client: object = None,  # noqa: ARG001 - the reference's signature
) -> None:
    """Give a name to the image that was built, on this machine and its engine: `Image.from_name(name)` finds it.

    `name` is `NAME` or `NAME:TAG`, with `ENVIRONMENT/` before it if need be. The name is taken from what had it.
    """
    whole = image_name(call, name, environment_name)
    if _in_container():
        return
    if object_id(image) is None:
        raise call.error("Cannot publish an image that has not been created yet. Call `.build()` first.")
    _local().publish(image, whole)


def hydrate(image: Image, call: ChainCall, client: object = None) -> Image:  # noqa: ARG001 - the reference's signature
    """Give the image itself where it was built; raise for another, as nothing but `.build()` builds it on demand."""
    if not _in_container() and object_id(image) is None:
        raise call.error("Images cannot be hydrated on demand, and this one was not built. Call `.build()` instead.")
    return image


def object_id(image: Image) -> str | None:
    """Give the id of what this process built with `.build()`; None before."""
    local = sys.modules.get(_LOCAL)
    found: str | None = local.object_id(image) if local is not None else None
    return found


def _local() -> Any:
    return importlib.import_module(_LOCAL)


def _in_container() -> bool:
    return IMAGE_VARIABLE in os.environ
