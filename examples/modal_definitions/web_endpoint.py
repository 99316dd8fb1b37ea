"""A web endpoint: `pip_install` and `env`."""

from __future__ import annotations

import os

from pytest_imagebuild import Image

image = (
    Image.debian_slim(python_version="3.13").pip_install("fastapi==0.121.1", "httpx==0.28.1").env({"GREETING": "Hello"})
)

with image.imports():
    from fastapi import FastAPI


def web_app() -> FastAPI:
    app = FastAPI()

    @app.get("/greet")
    def greet(name: str = "world") -> dict[str, str]:
        return {"message": f"{os.environ['GREETING']}, {name}!"}

    return app
