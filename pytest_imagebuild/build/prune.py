"""Remove what nobody needs any more, or has not used for long, while runs go on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_imagebuild.build.inventory import Download, KeptLayer, downloads, inventory
from pytest_imagebuild.build.names import Names
from pytest_imagebuild.build.notes import Notes
from pytest_imagebuild.engines.protocol import Engine
from pytest_imagebuild.engines.uses import Uses

__all__ = ["PruneOptions", "Pruned", "prune"]

_FRESH_SECONDS = 3600
"""A download that somebody read so lately may be about to be used."""

_ABANDONED_SECONDS = 24 * 3600
"""Nobody writes so long on a partial download."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PruneOptions:
    """What may go besides what no key leads to.

    `older_than` is in seconds since the last use, of layers and of downloads; `keep_size` in bytes is what layers may
    hold. None means no such bound. With `dry_run` nothing is removed.
    """

    older_than: float | None = None
    keep_size: int | None = None
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """One thing that went, or stays although it should have gone: then `freed` is None.

    `last_use` is in seconds since the epoch, None where it is not known. `is_layer` tells layers of the cache from
    what no key leads to and from downloads.
    """

    what: str
    freed: int | None
    last_use: float | None = None
    is_layer: bool = False


def prune(engine: Engine, uses: Uses, cache_dir: Path, options: PruneOptions) -> Iterator[Pruned]:
    """Remove what may go, one thing at a time, and yield each. Runs that claimed a layer keep it."""
    work = _Prune(engine, uses, cache_dir, options)
    yield from work.remnants()
    yield from work.partial_downloads()
    if options.older_than is not None:
        yield from work.old_downloads(options.older_than)
    if options.older_than is not None or options.keep_size is not None:
        yield from work.unused_layers()
    if not options.dry_run:
        work.drop_lost_notes()


class _Prune:
    """One pass over a store."""

    def __init__(self, engine: Engine, uses: Uses, cache_dir: Path, options: PruneOptions) -> None:
        self._engine = engine
        self._uses = uses
        self._cache_dir = cache_dir
        self._options = options
        self._now = time.time()
        identity = engine.capabilities().identity
        self._named = frozenset(Names(cache_dir, identity).all().values())
        self._notes = Notes(cache_dir, identity)

    def remnants(self) -> Iterator[Pruned]:
        for remnant in self._engine.remnants(self._uses.claimed()):
            freed = remnant.size if self._options.dry_run else self._engine.remove(remnant)
            if freed is not None:
                yield Pruned(what=remnant.what, freed=freed)

    def partial_downloads(self) -> Iterator[Pruned]:
        for download in downloads(self._cache_dir):
            if download.partial and download.last_use < self._now - _ABANDONED_SECONDS:
                yield self._remove_download(download)

    def old_downloads(self, older_than: float) -> Iterator[Pruned]:
        before = self._now - max(older_than, _FRESH_SECONDS)
        for download in downloads(self._cache_dir):
            if not download.partial and download.last_use < before:
                yield self._remove_download(download)

    def unused_layers(self) -> Iterator[Pruned]:
        """Go through the layers, the least recently used first, until what stays is little and young enough.

        A layer that stays keeps those below it.
        """
        layers = inventory(self._engine.stored(), self._uses.last_uses())
        total = sum(layer.stored.own_size for layer in layers)
        above = Counter(layer.built.labels.parent for layer in layers)
        for layer in layers:
            # It has a name, by which somebody may want it.
            if layer.key in self._named or above[layer.key] or not self._may_go(layer, total):
                continue
            pruned = self._remove_layer(layer)
            yield pruned
            if pruned.freed is not None:
                above[layer.built.labels.parent] -= 1
                total -= pruned.freed

    def drop_lost_notes(self) -> None:
        """Remove the notes of layers that went another way: swept, damaged, or removed by somebody else."""
        for key in self._notes.lost(self._engine.layers()):
            with self._uses.removing(key) as free:
                # A run may have made the layer since, and ended.
                if free and key in self._notes.lost(self._engine.layers()):
                    self._notes.drop(key)

    def _may_go(self, layer: KeptLayer, total: int) -> bool:
        options = self._options
        # What was used in the future was used before the clock was set back: it is as good as used now.
        last_use = min(layer.last_use, self._now)
        too_old = options.older_than is not None and last_use <= self._now - options.older_than
        return too_old or (options.keep_size is not None and total > options.keep_size)

    def _remove_layer(self, layer: KeptLayer) -> Pruned:
        labels = layer.built.labels
        if self._options.dry_run:
            kept = layer.stored.in_use or layer.key in self._uses.claimed()
            freed = None if kept else layer.stored.own_size
        else:
            with self._uses.removing(layer.key) as free:
                freed = self._engine.remove(layer.stored) if free else None
                if freed is not None:
                    self._notes.drop(layer.key)
            if freed is not None:
                self._uses.forget(layer.key, labels.parent)
        return Pruned(what=labels.step or layer.key, freed=freed, last_use=layer.last_use, is_layer=True)

    def _remove_download(self, download: Download) -> Pruned:
        if not self._options.dry_run:
            download.path.unlink(missing_ok=True)
        what = f"{download.path.name} ({download.what})"
        return Pruned(what=what, freed=download.size, last_use=download.last_use)
