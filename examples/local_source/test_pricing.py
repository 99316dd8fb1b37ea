"""Local source: `add_local_python_source` puts a package of this machine into the container at its start.

Edit `src/pricing` and run again: the tests see the edit, and no image is built.
"""

from __future__ import annotations

import pytest

from pytest_imagebuild import Image

image = Image.debian_slim("3.13").add_local_python_source("pricing")

with image.imports():
    import pricing

pytestmark = pytest.mark.image(image)


def test_the_package_lies_below_root() -> None:
    assert pricing.__file__ == "/root/pricing/__init__.py"


@pytest.mark.parametrize(("pieces", "total"), [(1, 2.0), (9, 18.0), (10, 18.0)])
def test_ten_pieces_are_a_tenth_cheaper(pieces: int, total: float) -> None:
    assert pricing.price(pieces, 2.0) == total
