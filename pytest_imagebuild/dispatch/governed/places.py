"""Which folders have an image for all their tests: `--image` and the ini key `image`, read and loaded."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_imagebuild.dispatch.definitions import load_image
from pytest_imagebuild.dispatch.requests import SessionKey
from pytest_imagebuild.errors import ImageBuildError
from pytest_imagebuild.options import NamedImage

__all__ = ["Place", "Places"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A folder and the image that its tests run in. `label` is what their ids show, "" if the folder has one image."""

    folder: Path
    key: SessionKey
    label: str


class Places:
    """The folders that have images. A folder's images hold for the folders in it, but for those with their own."""

    def __init__(self, places: Iterable[Place]) -> None:
        self._by_folder: dict[Path, list[Place]] = {}
        for place in places:
            self._by_folder.setdefault(place.folder, []).append(place)

    @classmethod
    def load(cls, names: Sequence[NamedImage]) -> Places:
        """Import what defines the images. Raises pytest.UsageError."""
        distinct = list(dict.fromkeys(names))
        labels = Counter((name.folder, _attribute(name)) for name in distinct)
        several = Counter(name.folder for name in distinct)
        places = []
        for name in distinct:
            label = _attribute(name) if labels[name.folder, _attribute(name)] == 1 else name.name
            try:
                with _same_import_path():
                    image = load_image(name.name, name.base)
            except Exception as error:  # whatever the user has written at the top of a file
                shown = str(error) if isinstance(error, ImageBuildError) else f"{type(error).__name__}: {error}"
                raise pytest.UsageError(f"{name.origin} {name.name}: {shown}") from error
            key = SessionKey(image=image, collects=(str(name.folder), label))
            places.append(Place(folder=name.folder, key=key, label=label if several[name.folder] > 1 else ""))
        return cls(places)

    def __iter__(self) -> Iterator[Place]:
        for places in self._by_folder.values():
            yield from places

    def of(self, path: Path) -> Sequence[Place]:
        """Return the places that hold for a path, those of the innermost folder; () if there is none."""
        for folder in (path, *path.parents):
            if folder in self._by_folder:
                return self._by_folder[folder]
        return ()

    def below(self, folder: Path) -> list[Path]:
        """Return the folders in `folder` that have images of their own."""
        return [other for other in self._by_folder if folder in other.parents]


def _attribute(name: NamedImage) -> str:
    return name.name.rpartition(":")[2]


@contextmanager
def _same_import_path() -> Iterator[None]:
    """Leave `sys.path` as it was: what tests can import shall not depend on where their image is defined."""
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before
