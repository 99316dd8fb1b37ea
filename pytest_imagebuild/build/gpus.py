"""GPUs for the layer that is made: those that its step asks for, leased."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pytest_imagebuild.engines.gpus.inventory import GpuInventory
from pytest_imagebuild.engines.gpus.leases import Leases
from pytest_imagebuild.errors import DefinitionError
from pytest_imagebuild.image.gpu import shown_gpus
from pytest_imagebuild.plan.plan import PlannedLayer

__all__ = ["lent"]


@contextmanager
def lent(
    inventory: GpuInventory, layer: PlannedLayer, leases: Leases, output: Callable[[str], None]
) -> Iterator[tuple[str, ...]]:
    """Give the ids of GPUs that nobody else has meanwhile.

    Raises DefinitionError at the user's line where there are not as many here as the step asks for.
    """
    found = inventory.fitting(layer.gpu)
    if found is None:
        message = (
            f"{layer.title}: {inventory.lacking(shown_gpus(layer.gpu))}. A step with gpu= is built where there is such "
            "a GPU: build the image there, or leave gpu= out."
        )
        raise DefinitionError(message, where=layer.where)
    wish, gpus = found
    lease = leases.take(gpus, wish.count, lambda: output(f"waits for a GPU: {wish} is asked for, others use it"))
    try:
        yield lease.ids
    finally:
        lease.release()
