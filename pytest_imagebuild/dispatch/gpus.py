"""GPUs for tests: which items can have what they ask for here, and the lease of a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import pytest

from pytest_imagebuild.dispatch import reports
from pytest_imagebuild.errors import EngineError

if TYPE_CHECKING:
    from pytest_imagebuild.dispatch.requests import Request, SessionKey
    from pytest_imagebuild.engines.gpus.inventory import GpuInventory
    from pytest_imagebuild.engines.gpus.leases import Lease, Leases
    from pytest_imagebuild.image.gpu import GpuRequest

__all__ = ["GpuWarning", "lease_of", "missing_gpus", "reports_of_missing", "warn_of_lost"]


class GpuWarning(pytest.PytestWarning):
    """A container goes without a part of what the specification of its GPU says."""


def missing_gpus(
    requests: Mapping[pytest.Item, Request], look: Callable[[], GpuInventory]
) -> Mapping[pytest.Item, str]:
    """Return the items for which there is no GPU here, each with what was asked for and what was found.

    `look` is called only where an item asks for a GPU.
    """
    asking = {item: request.session.gpu for item, request in requests.items() if request.session.gpu}
    if not asking:
        return {}
    inventory = look()
    return {item: _lacking(inventory, gpu) for item, gpu in asking.items() if not inventory.fitting(gpu)}


def reports_of_missing(item: pytest.Item, reason: str, *, fail: bool) -> Iterator[pytest.TestReport]:
    """Yield the reports of an item that has no GPU: it is skipped, or with `fail` it fails in set-up."""
    if fail:
        advice = "Run it where there is such a GPU, or let it be skipped: --gpu-missing=skip."
        yield from reports.setup_error(item, f"{reason}. {advice}")
        return
    yield reports.skipped(item, reason)
    yield reports.passed(item, when="teardown")


def lease_of(
    key: SessionKey, look: Callable[[], GpuInventory], leases: Leases, say: Callable[[str], None]
) -> Lease | None:
    """Lease what a session asks for, and wait for it; None where it asks for nothing."""
    if not key.gpu:
        return None
    inventory = look()
    found = inventory.fitting(key.gpu)
    if found is None:
        raise EngineError(f"a GPU is gone: {_lacking(inventory, key.gpu)}.")
    wish, gpus = found
    return leases.take(gpus, wish.count, lambda: say(f"{key.image.label} waits for a GPU ({wish}): others use it"))


def warn_of_lost(item: pytest.Item, key: SessionKey, look: Callable[[], GpuInventory], engine: str) -> None:
    """Warn, at the line of `item`, of what its GPUs go without. Raises GpuWarning where filters make an error of it."""
    found = look().fitting(key.gpu) if key.gpu else None
    for lost in dict.fromkeys(sentence for gpu in (found[1] if found else ()) for sentence in gpu.lost):
        item.warn(GpuWarning(f"On the {engine} engine a container with this GPU goes without {lost}."))


def _lacking(inventory: GpuInventory, asked: tuple[GpuRequest, ...]) -> str:
    from pytest_imagebuild.image.gpu import shown_gpus  # noqa: PLC0415 - few items ask for any

    return inventory.lacking(shown_gpus(asked))
