"""Load the images of an archive into the engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_imagebuild.engines.docker.connection import engine_errors
from pytest_imagebuild.engines.protocol import Output

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["load_archive"]


_LOADED = re.compile(r"Loaded image: *(\S+)")


def load_archive(api: APIClient, archive: Path, name: str, output: Output) -> tuple[str, ...]:
    """Load the images of an archive and return their names. Raises EngineError."""
    with engine_errors(f"load {archive}"), archive.open("rb") as data:
        said = "".join(event.get("stream", "") for event in api.load_image(data))  # type: ignore[no-untyped-call]
    for line in said.splitlines():
        output(line)
    return tuple(_LOADED.findall(said)) or (name,)
