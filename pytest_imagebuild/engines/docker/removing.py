"""Remove containers and images, which other processes may be removing too."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TYPE_CHECKING

from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from pytest_imagebuild.engines.docker.connection import LOOK, LOST, engine_errors, explain
from pytest_imagebuild.errors import EngineError

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["Removals", "gone", "remove_container", "remove_image"]

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


class Removals:
    """Removes containers that have done their work, beside whatever is done next."""

    def __init__(self, api: APIClient) -> None:
        self._api = api
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="imagebuild-remove")
        self._begun: set[Future[None]] = set()

    def begin(self, container: str) -> None:
        """Begin to remove a container; after the end, remove it now."""
        try:
            begun = self._pool.submit(self.remove, container)
        except RuntimeError:  # this is closed, or the interpreter ends
            self.remove(container)
            return
        self._begun.add(begun)
        begun.add_done_callback(self._begun.discard)

    def settle(self) -> None:
        """Wait until what was begun is done."""
        wait(tuple(self._begun))

    def close(self) -> None:
        """Settle, and let go of the thread."""
        self._pool.shutdown()

    def remove(self, container: str) -> None:
        """Remove a container, now; one that stays is found by the next sweep."""
        # What was made in it, or went wrong in it, is worth more than this.
        with suppress(EngineError):
            remove_container(self._api, container)


def gone(image: str) -> EngineError:
    """Return the error of an image that is not there any more."""
    return EngineError(f"the image {image} is gone: something removed it; run again to build it")


def remove_container(api: APIClient, container: str) -> None:
    """Kill and remove a container, with its volumes. One that is gone, or is just going, is as good."""
    try:
        api.remove_container(container, v=True, force=True)
    except NotFound:
        pass
    except APIError as error:
        if error.status_code != 409:
            raise EngineError(f"Docker refused to remove a container: {explain(error)}") from error
    except (DockerException, *LOST) as error:
        raise EngineError(f"Docker was lost while it should remove a container: {explain(error)}. {LOOK}") from error
