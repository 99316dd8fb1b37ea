"""The value behind an `Image`: what was called, in order, and what follows from it."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn, TypeVar

from pytest_imagebuild.errors import DefinitionError, SourceLocation
from pytest_imagebuild.image.callers import callers_line
from pytest_imagebuild.image.canonical import digest

if TYPE_CHECKING:
    from typing import ParamSpec

    from typing_extensions import Self

    from pytest_imagebuild.image.sources import LocalSource
    from pytest_imagebuild.image.step import Step

    P = ParamSpec("P")
R = TypeVar("R")

__all__ = ["FACTORIES", "Recipe", "definition_of", "not_constructed", "on_recipe"]

FACTORIES = "Image.debian_slim() or Image.from_registry()"

_FORMAT = "image/1"


def definition_of(steps: tuple[Step, ...], local_sources: tuple[LocalSource, ...] = ()) -> str:
    """Return the `definition` of the image with these steps and lazy local sources."""
    return digest((_FORMAT, steps, local_sources))


class Recipe:
    """An immutable chain of steps. Two are equal when they have the same calls, wherever these were written."""

    __slots__ = ("__weakref__", "_definition", "local_sources", "misplaced", "steps")

    steps: tuple[Step, ...]
    """The calls that make layers, in order, the base first."""
    local_sources: tuple[LocalSource, ...]
    """The `add_local_*` calls with `copy=False`, in order: put in place when a container starts."""
    misplaced: Step | None
    """The first step that came after a local source, if any: see `check`."""
    _definition: str | None

    @classmethod
    def _make(
        cls, steps: tuple[Step, ...], local_sources: tuple[LocalSource, ...] = (), misplaced: Step | None = None
    ) -> Self:
        recipe = object.__new__(cls)
        object.__setattr__(recipe, "steps", steps)
        object.__setattr__(recipe, "local_sources", local_sources)
        object.__setattr__(recipe, "misplaced", misplaced)
        object.__setattr__(recipe, "_definition", None)
        return recipe

    @property
    def definition(self) -> str:
        """The identity: sha256 over the calls and their arguments, as 64 hexadecimal digits."""
        definition = self._definition
        if definition is None:
            definition = definition_of(self.steps, self.local_sources)
            object.__setattr__(self, "_definition", definition)
        return definition

    @property
    def label(self) -> str:
        """A short name of the base for parametrization ids: "py3.12", "debian_slim", "debian-trixie"."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.steps[0].base_name).strip("-")

    @property
    def where(self) -> SourceLocation | None:
        """The line of the chain's first call."""
        return self.steps[0].where

    def check(self) -> None:
        """Raise `DefinitionError`, at its line, for a build step that comes after a lazy `add_local_*`."""
        if self.misplaced is None:
            return
        added, step = self.local_sources[0], self.misplaced.describe()
        message = (
            "An image tried to run a build step after using `image.add_local_*` to include local files. "
            f"{step} comes after {added.describe()}, whose files are put in place when a container starts. "
            "Call add_local_* last, or pass copy=True to make the files a layer of the image:\n\n"
            f"    image.{added.describe(copy=True)}.{step}\n"
        )
        raise DefinitionError(message, where=self.misplaced.where)

    def _add(self, source: LocalSource, *, copy: bool) -> Self:
        if copy:
            from pytest_imagebuild.image.steps.copying import CopyLocalStep  # noqa: PLC0415 - as in `Installing`

            return self._then(CopyLocalStep(source=source, where=source.where))
        return self._make(self.steps, (*self.local_sources, source), self.misplaced)

    def _then(self, step: Step) -> Self:
        # Whatever comes after a forced step is forced, so only the last one has to be asked.
        step = replace(step, force=True) if self.steps[-1].force else step
        misplaced = self.misplaced or (step if self.local_sources else None)
        return self._make((*self.steps, step), self.local_sources, misplaced)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Recipe):
            return NotImplemented
        return self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self.definition)

    def __repr__(self) -> str:
        calls = [step.describe() for step in self.steps] + [source.describe() for source in self.local_sources]
        shown = [*calls[:3], "…"] if len(calls) > 4 else calls
        return ".".join([type(self).__name__, *shown])

    def __setattr__(self, name: str, value: object) -> NoReturn:
        message = f"an image does not change: cannot set {name!r}"
        raise AttributeError(message)

    def __delattr__(self, name: str) -> NoReturn:
        message = f"an image does not change: cannot delete {name!r}"
        raise AttributeError(message)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return type(self)._make, self._parts()

    def _parts(self) -> tuple[tuple[Step, ...], tuple[LocalSource, ...], Step | None]:
        return self.steps, self.local_sources, self.misplaced


def not_constructed(method: str) -> DefinitionError:
    """Give the error of a step that is called on the class itself."""
    message = (
        f"{method}: Image has not been constructed yet. Use one of the static factory methods to make one first: "
        f"{FACTORIES}."
    )
    return DefinitionError(message, where=callers_line())


def on_recipe(method: Callable[P, R]) -> Callable[P, R]:
    """Make a step that is called on the class itself say what is missing."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not args or not isinstance(args[0], Recipe):
            raise not_constructed(method.__name__)
        return method(*args, **kwargs)

    return call
