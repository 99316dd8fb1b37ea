"""A Poetry project: its `poetry.lock` decides; a group that is for developers stays out."""

from __future__ import annotations

from pathlib import Path

from pytest_imagebuild import Image

PROJECT = Path(__file__).with_name("poetry_project")

image = Image.debian_slim(python_version="3.13").poetry_install_from_file(
    str(PROJECT / "pyproject.toml"), without=["dev"]
)

with image.imports():
    import jinja2


def letter(name: str) -> str:
    return jinja2.Template("Dear {{ name|title }},").render(name=name)
