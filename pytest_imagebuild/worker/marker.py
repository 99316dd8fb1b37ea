"""The image marker, as the controller and the worker both read it: they must give items the same ids.

Runs in the container too: imports the standard library and pytest only. An image is whatever the marker
holds; all that is asked of it is a `label`.
"""

from __future__ import annotations

import pytest

__all__ = [
    "FIXTURE",
    "image_of",
    "image_under_test",
    "images_of",
    "label_of",
    "pytest_generate_tests",
    "pytest_itemcollected",
]

FIXTURE = "image_under_test"


def images_of(node: pytest.Item | pytest.Collector) -> tuple[object, ...]:
    """Return the images of the closest marker of a node, () if it has none."""
    mark = node.get_closest_marker("image")
    return mark.args if mark else ()


def image_of(item: pytest.Item) -> object | None:
    """Return the image that an item runs in, None if it has none."""
    callspec = getattr(item, "callspec", None)
    images = images_of(item)
    if callspec is not None and len(images) > 1 and FIXTURE in callspec.params:
        image: object = callspec.params[FIXTURE]
        return image
    return images[0] if images else None


def label_of(item: pytest.Item) -> str:
    """Return what the id of an item shows of its image, "" if it is not one of several."""
    callspec = getattr(item, "callspec", None)
    several = callspec is not None and len(images_of(item)) > 1 and FIXTURE in callspec.params
    return _label(image_of(item)) if several else ""


# First, so that the image is the outermost of several parameters: its items stay together.
@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with several images once in each of them."""
    images = images_of(metafunc.definition)
    if len(images) < 2 or _is_parametrized(metafunc.definition):
        return
    if FIXTURE not in metafunc.fixturenames:
        metafunc.fixturenames.append(FIXTURE)
    metafunc.parametrize(FIXTURE, images, ids=[_label(image) for image in images], scope="function")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give a test that asks for a GPU the marker `gpu`, so that `-m gpu` selects it."""
    mark = item.get_closest_marker("image")
    if mark is not None and mark.kwargs.get("gpu"):
        item.add_marker("gpu")


@pytest.fixture(name=FIXTURE)
def image_under_test(request: pytest.FixtureRequest) -> object | None:
    """The image that the test runs in, None if it has no image marker."""
    return getattr(request, "param", None) or image_of(request.node)


def _is_parametrized(definition: pytest.Item) -> bool:
    """Tell whether the user parametrizes `image_under_test` himself."""
    for mark in definition.iter_markers("parametrize"):
        names = mark.args[0] if mark.args else mark.kwargs.get("argnames", "")
        if FIXTURE in ([name.strip() for name in names.split(",")] if isinstance(names, str) else names):
            return True
    return False


def _label(image: object) -> str:
    return str(getattr(image, "label", None) or image)
