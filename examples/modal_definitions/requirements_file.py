"""Documents: `pip_install_from_requirements`, and steps that several images share by `pipe`."""

from __future__ import annotations

from pathlib import Path

from pytest_imagebuild import Image


def in_utc(image: Image, *, locale: str) -> Image:
    """Settings that all our images have."""
    return image.env({"TZ": "UTC", "LC_ALL": locale})


image = (
    Image.debian_slim(python_version="3.13")
    .pip_install_from_requirements(str(Path(__file__).with_name("requirements.txt")))
    .pipe(in_utc, locale="C.UTF-8")
)

with image.imports():
    from markdown_it import MarkdownIt


def page(text: str) -> str:
    return str(MarkdownIt().render(text))
