from __future__ import annotations

import os
import time

import pytest
from requirements_file import image, page

pytestmark = pytest.mark.image(image)


def test_markdown_becomes_html() -> None:
    assert page("# Title") == "<h1>Title</h1>\n"


def test_the_settings_of_all_images_hold() -> None:
    assert (time.tzname[0], os.environ["LC_ALL"]) == ("UTC", "C.UTF-8")
