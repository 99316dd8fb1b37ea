from __future__ import annotations

import os

import pytest
from private_index import image, installed

pytestmark = pytest.mark.image(image)


def test_the_package_of_the_company_is_there() -> None:
    assert installed() == "1.4"


def test_the_login_is_not() -> None:
    assert "ACME_INDEX" not in os.environ
