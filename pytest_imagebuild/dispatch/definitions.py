"""Find images by name, and all images that a collected project defines."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest

from pytest_imagebuild.errors import ImageBuildError
from pytest_imagebuild.image.chain import Image
from pytest_imagebuild.worker.marker import images_of

__all__ = ["images_in", "load_image"]


def load_image(name: str, base: Path | None = None) -> Image:
    """Return the image that `FILE.py:NAME` or `MODULE:NAME` names. Raises ImageBuildError.

    `base` is the folder that a relative path starts from, and where modules are found; None is the working directory.
    """
    place, colon, attribute = name.rpartition(":")
    if not colon or not place or not attribute:
        raise ImageBuildError(f"{name!r} does not name an image. Write FILE.py:NAME or MODULE:NAME.")
    module = _load_file(Path(base or "", place)) if place.endswith(".py") else _load_module(place, base)
    image = getattr(module, attribute, None)
    if not isinstance(image, Image):
        found = "nothing" if image is None else f"a {type(image).__name__}"
        names = sorted(key for key, value in vars(module).items() if isinstance(value, Image))
        raise ImageBuildError(
            f"{name!r} should name an Image, found {found}. Images in {place}: {', '.join(names) or 'none'}."
        )
    return image


def images_in(items: Iterable[pytest.Item], config: pytest.Config) -> list[Image]:
    """Return every image that collected tests can use.

    That is the images of markers, and those that stand at the top level of a test module or a conftest file.
    """
    items = list(items)
    found = [image for item in items for image in images_of(item) if isinstance(image, Image)]
    modules = dict.fromkeys(item.module for item in items if isinstance(item, pytest.Function))
    conftests = [
        plugin
        for plugin in config.pluginmanager.get_plugins()
        if isinstance(plugin, ModuleType) and Path(getattr(plugin, "__file__", None) or "").name == "conftest.py"
    ]
    for module in [*modules, *conftests]:
        found += [value for value in vars(module).values() if isinstance(value, Image)]
    return list(dict.fromkeys(found))


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ImageBuildError(f"{path} does not exist (looked in {Path.cwd()}). Give the path of a Python file.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImageBuildError(f"{path} cannot be loaded as a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.resolve().parent))
    spec.loader.exec_module(module)
    return module


def _load_module(name: str, base: Path | None) -> ModuleType:
    sys.path.insert(0, str(base or Path.cwd()))
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImageBuildError(f"module {name!r} cannot be imported: {error}.") from error
