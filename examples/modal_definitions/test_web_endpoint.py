from __future__ import annotations

import pytest
from web_endpoint import image, web_app

with image.imports():
    from fastapi.testclient import TestClient

pytestmark = pytest.mark.image(image)


def test_it_greets_by_name() -> None:
    assert TestClient(web_app()).get("/greet", params={"name": "Ada"}).json() == {"message": "Hello, Ada!"}
