from __future__ import annotations

import os

import pytest
from diffusion import CACHE, generate, image, models

with image.imports():
    import numpy as np

pytestmark = pytest.mark.image(image, volumes={str(CACHE): models})


def test_the_same_seed_gives_the_same_picture() -> None:
    assert generate(1).shape == (32, 32, 4)
    assert np.array_equal(generate(1), generate(1))
    assert not np.array_equal(generate(1), generate(2))


def test_the_token_is_known_to_the_download_alone() -> None:
    assert "HF_TOKEN" not in os.environ
