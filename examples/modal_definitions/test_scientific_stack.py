from __future__ import annotations

import sys

import pytest
from scientific_stack import image, zeta

pytestmark = pytest.mark.image(image)


def test_zeta_is_right_to_fifty_digits() -> None:
    assert zeta(2, 50) == "1.6449340668482264364724151666460251892189499012068"


def test_python_is_that_of_the_environment() -> None:
    assert sys.prefix == "/opt/conda"
