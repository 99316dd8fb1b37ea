"""A project that has a Dockerfile: several stages, a build argument, an ignore file; and a step on top of it."""

from __future__ import annotations

from pathlib import Path

from pytest_imagebuild import Image

PROJECT = Path(__file__).with_name("dockerfile_project")

image = Image.from_dockerfile(PROJECT / "Dockerfile", context_dir=PROJECT, build_args={"PYTHON": "3.13"}).run_commands(
    "python3 -c 'import app.words' && date -u +%Y > /srv/built.txt"
)
