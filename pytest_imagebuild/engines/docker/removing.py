"""Remove images, which other processes may be removing too."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from docker.errors import APIError, ImageNotFound

from pytest_imagebuild.engines.docker.connection import engine_errors

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["remove_image"]

# Of two that remove an image and what is below it, the daemon tells one that it failed: "unrecognized image ID". Where
# that does not end, whoever sweeps next tries again: nobody's run fails of it.
_MET_ANOTHER = (404, 500)
_TRIES = 10
_BETWEEN_SECONDS = 0.2


def remove_image(api: APIClient, name: str, doing: str = "remove an image", *, force: bool = False) -> bool | None:
    """Remove an image, or the name of one: True when it went, None when it was gone, False when it stays."""
    with engine_errors(doing):
        for _ in range(_TRIES):
            try:
                api.remove_image(name, force=force)
            except ImageNotFound:
                return None
            except APIError as error:
                if error.status_code == 409:
                    return False
                if error.status_code not in _MET_ANOTHER:
                    raise
                time.sleep(_BETWEEN_SECONDS)
            else:
                return True
    return False
