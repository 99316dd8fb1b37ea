from __future__ import annotations

import os

import pytest
from native_code import image, sum_of_squares

pytestmark = pytest.mark.image(image)


@pytest.mark.parametrize(("numbers", "total"), [([], 0), ([3, 4], 25), ([50_000] * 2, 5_000_000_000)])
def test_squares_are_summed(numbers: list[int], total: int) -> None:
    assert sum_of_squares(os.environ["SUM_LIBRARY"], numbers) == total
