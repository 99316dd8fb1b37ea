"""Data science: `uv_pip_install` puts pandas into the image; this machine needs none of it.

`imports()` lets the module be collected here, where pandas is not installed.
"""

from __future__ import annotations

import pytest

from pytest_imagebuild import Image

science = Image.debian_slim("3.13").uv_pip_install("pandas==2.3.3")

with science.imports():
    import pandas as pd

pytestmark = pytest.mark.image(science)


@pytest.fixture(scope="module")
def sales() -> pd.DataFrame:
    return pd.DataFrame({"fruit": ["apple", "pear", "apple"], "pieces": [3, 5, 4]})


def test_pieces_are_summed_for_each_fruit(sales: pd.DataFrame) -> None:
    assert sales.groupby("fruit")["pieces"].sum().to_dict() == {"apple": 7, "pear": 5}


@pytest.mark.parametrize(("quantile", "pieces"), [(0.0, 3), (0.5, 4), (1.0, 5)])
def test_quantiles(sales: pd.DataFrame, quantile: float, pieces: int) -> None:
    assert sales["pieces"].quantile(quantile) == pieces
