"""A uv project: its `uv.lock` decides what is installed, its sources come in when the container starts."""

from __future__ import annotations

from pathlib import Path

from pytest_imagebuild import Image

PROJECT = Path(__file__).with_name("uv_project")

image = (
    Image.debian_slim(python_version="3.13")
    .uv_sync(str(PROJECT), groups=["check"], frozen=True)
    .add_local_dir(PROJECT / "forecast", "/root/forecast", ignore=["**/__pycache__"])
)

with image.imports():
    from forecast import sentence


def front_page() -> str:
    return sentence(1_234_567)
