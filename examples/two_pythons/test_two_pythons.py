"""Two Pythons in one run: a marker with two images runs each test once in each of them.

`image_under_test` is the image that the test runs in.
"""

from __future__ import annotations

import math
import sys

import pytest

from pytest_imagebuild import Image

oldest = Image.debian_slim("3.11")
newest = Image.debian_slim("3.13")

pytestmark = pytest.mark.image(oldest, newest)


def test_each_image_has_its_own_python(image_under_test: Image) -> None:
    series = {oldest: (3, 11), newest: (3, 13)}
    assert sys.version_info[:2] == series[image_under_test]


def test_both_know_cube_roots() -> None:
    assert math.cbrt(27) == pytest.approx(3)
