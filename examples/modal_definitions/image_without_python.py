"""An image of somebody else that has no Python: `add_python` adds one, a Dockerfile's lines come before it."""

from __future__ import annotations

from pytest_imagebuild import Image

image = Image.from_registry(
    "debian:trixie", add_python="3.13", setup_dockerfile_commands=["ENV STAGE=set-up", "RUN echo prepared > /etc/stage"]
)
