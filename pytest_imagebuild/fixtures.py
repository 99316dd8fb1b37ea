"""What the fixtures of the host give to tests that build images, or talk to services, from outside any container."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

import pytest

from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.protocol import Service
from pytest_imagebuild.engines.services import ServiceSpec
from pytest_imagebuild.errors import ImageBuildError
from pytest_imagebuild.image.chain import Image

__all__ = ["BuiltImage", "HostRun", "builder", "services"]


class HostRun(Protocol):
    """What fixtures need of a run."""

    def build(self, image: Image) -> BuiltLayer:
        """Build an image; raises what keeps it from being built."""

    def serve(self, layer: BuiltLayer, spec: ServiceSpec) -> Service:
        """Start a service container."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltImage:
    """A built image. `key` is its layer key, `reference` what the engine knows it by, on docker an image id."""

    key: str
    reference: str


def builder(run: HostRun) -> Callable[[Image], BuiltImage]:
    """Return the function that `image_build` gives to a test."""

    def build(image: Image) -> BuiltImage:
        __tracebackhide__ = True
        layer = _built(run, image, "image_build")
        return BuiltImage(key=layer.labels.key, reference=layer.reference)

    return build


@contextmanager
def services(run: HostRun) -> Iterator[Callable[..., Service]]:
    """Give the function that `image_container` gives to a test; stop every container at the end."""
    with ExitStack() as started:

        def start(
            image: Image,
            *,
            command: Sequence[str] = (),
            ports: Sequence[int] = (),
            env: Mapping[str, str] | None = None,
        ) -> Service:
            __tracebackhide__ = True
            layer = _built(run, image, "image_container")
            if isinstance(command, str):
                raise pytest.UsageError(
                    "image_container: command takes a list of strings, found a string. "
                    f'Write command=["sh", "-c", {command!r}] to run it in a shell.'
                )
            spec = ServiceSpec(command=tuple(command), environment=dict(env or {}), ports=tuple(ports))
            service = run.serve(layer, spec)
            started.callback(service.stop)
            return service

        yield start


def _built(run: HostRun, image: object, fixture: str) -> BuiltLayer:
    __tracebackhide__ = True
    if not isinstance(image, Image):
        raise pytest.UsageError(f"{fixture} takes an Image, found {type(image).__name__} {image!r}.")
    try:
        return run.build(image)
    except ImageBuildError as error:
        # How it came to this inside the plugin is noise to who wrote the image.
        raise error.with_traceback(None) from None
