"""Save an image of the engine as an archive for everybody: what `docker save` gives, in one form and without our marks.

Before version 25, Docker names the members by folders of its own; since then it writes an OCI layout. The list of
images is in both.
"""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pytest_imagebuild.engines.docker.connection import engine_errors
from pytest_imagebuild.engines.oci.saving import cannot_write, clean_config, save
from pytest_imagebuild.engines.protocol import Output
from pytest_imagebuild.errors import EngineError

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["save_image"]

_LIST = "manifest.json"
_BETWEEN = 0.5
_CHUNK = 1024 * 1024


def save_image(api: APIClient, image: str, target: Path, name: str, output: Output) -> None:
    """Write the archive of an image. Beside `target` its size is needed once more meanwhile. Raises EngineError."""
    try:
        # It has no name, so nothing is left of it whatever happens to this process.
        saved = tempfile.TemporaryFile(dir=target.parent)  # noqa: SIM115 - closed below
    except OSError as error:
        raise cannot_write(target, error) from error
    with saved:
        _receive(api, image, target, saved, lambda size: output(f"{name}: Docker gave {size / 1e6:.1f} MB"))
        try:
            with tarfile.open(fileobj=saved) as tar:
                (entry,) = _document(tar, _LIST)
                config = clean_config(_document(tar, entry["Config"]))
                layers = [partial(_copy, tar, layer) for layer in entry["Layers"]]
                save(target, name, config, layers, output)
        except (tarfile.TarError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise EngineError(f"Docker gave an archive of {image} that cannot be read: {error}; try again") from error


def _receive(api: APIClient, image: str, target: Path, saved: IO[bytes], tell: Callable[[int], None]) -> None:
    size, told = 0, time.monotonic()
    with engine_errors(f"save the image {image}"):
        for part in api.get_image(image):
            try:
                _write(saved.fileno(), part)
            except OSError as error:
                raise cannot_write(target, error) from error
            size += len(part)
            if time.monotonic() - told > _BETWEEN:
                told = time.monotonic()
                tell(size)
    saved.seek(0)


def _document(tar: tarfile.TarFile, name: str) -> Any:
    return json.loads(_member(tar, name).read())


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    # A layer that the image has twice is a link in an older form; it leads to the member.
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    return file


def _copy(tar: tarfile.TarFile, name: str, target: int) -> None:
    with _member(tar, name) as layer:
        while part := layer.read(_CHUNK):
            _write(target, part)


def _write(target: int, part: bytes) -> None:
    view = memoryview(part)
    while view:
        view = view[os.write(target, view) :]
