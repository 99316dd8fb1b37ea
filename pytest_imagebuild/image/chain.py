"""`Image`: the chain of calls by which a test names the environment that it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from pytest_imagebuild.errors import DefinitionError
from pytest_imagebuild.image import acting
from pytest_imagebuild.image.acting import Blocking
from pytest_imagebuild.image.adding import Adding
from pytest_imagebuild.image.callers import callers_line
from pytest_imagebuild.image.calling import Calling
from pytest_imagebuild.image.changing import Changing
from pytest_imagebuild.image.dockerfiling import Dockerfiles
from pytest_imagebuild.image.factories import Factories
from pytest_imagebuild.image.imports import ImportsBlock, Swallowed, swallowed
from pytest_imagebuild.image.installing import Installing
from pytest_imagebuild.image.recipe import FACTORIES, on_recipe

if TYPE_CHECKING:
    from typing import Concatenate, ParamSpec

    P = ParamSpec("P")
R = TypeVar("R")

__all__ = ["Image"]


class Image(Factories, Dockerfiles, Installing, Changing, Calling, Adding):
    """A container image, described: each call gives a new image and leaves the old one as it was.

    Nothing is read, run or fetched until a test or a command needs the image built. The names, arguments and
    meanings are those of `modal.Image`. A wrong argument raises `DefinitionError` at the call, with its line.

    Two images are equal when they have the same calls with the same arguments, wherever they were written.
    """

    __slots__ = ()

    def __init__(self, *_: object, **__: object) -> None:
        message = f"Image has no constructor. Use one of the static factory methods: {FACTORIES}."
        raise DefinitionError(message, where=callers_line())

    build = Blocking(acting.build)
    publish = Blocking(acting.publish)
    hydrate = Blocking(acting.hydrate)

    @property
    def object_id(self) -> str | None:
        """The id of the image that this process built with `build()`, made of its layer key; None before that."""
        return acting.object_id(self)

    @property
    def logs(self) -> acting.Logs:
        """What its steps printed while this process built it: `logs.fetch()`, `logs.tail(20)`."""
        return acting.Logs(self)

    @on_recipe
    def pipe(self, func: Callable[Concatenate[Image, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Give `func(image, *args, **kwargs)`: a function of yours as one link of the chain."""
        return func(self, *args, **kwargs)

    @on_recipe
    def imports(self) -> ImportsBlock:
        """Guard imports that only the image has: `with image.imports(): import pandas`.

        In a container of this image the block runs as it stands. Elsewhere an exception in it is swallowed; one
        that is not an `ImportError` also gives a `UserWarning`. Blocks in one another each stand for their own image.
        """
        return ImportsBlock(self.definition)

    @property
    def swallowed_imports(self) -> tuple[Swallowed, ...]:
        """What `imports()` blocks of this image have swallowed in this process, each with the line of its block."""
        return swallowed(self.definition)
