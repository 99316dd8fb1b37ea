"""What an engine stores, as housekeeping sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pytest_imagebuild.engines.layers import BuiltLayer

__all__ = ["Remnant", "StoredLayer"]


class StoredLayer(NamedTuple):
    """A finished layer of the cache, as housekeeping sees it.

    `own_size` is the bytes that it holds: without the layers below, and without what is not ours (a base image that the
    user has as an image of his own). What several layers hold, as two of one base image, counts for the newest of them,
    so that the sum is what all of them hold. `in_use` says that a container needs it now.
    """

    built: BuiltLayer
    own_size: int
    in_use: bool = False


class Remnant(NamedTuple):
    """Something in the engine's store that no key leads to.

    It is what a dead run left, a replaced generation, a base image or blob that no layer needs, or a broken-off
    download. `name` is how the engine finds it again, `what` is for people, `size` is the bytes that it holds.
    """

    name: str
    what: str
    size: int
