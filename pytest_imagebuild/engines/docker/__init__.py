"""The Docker engine: docker-py for images and work, testcontainers for containers that tests use."""

from __future__ import annotations

from pytest_imagebuild.engines.docker.engine import DockerEngine

__all__ = ["DockerEngine"]
